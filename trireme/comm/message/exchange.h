#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "trireme/comm/message/transport.h"
#include "trireme/comm/operation.h"
#include "trireme/comm/traffic.h"

namespace trireme::message {

/// The transfers of one communicator that are in flight, so that all can be aborted, and the bytes
/// of all transfers so far. Thread-safe.
class Transfers {
 public:
  void add(Transfer& transfer);
  void remove(Transfer& transfer);
  /// Aborts the transfers in flight and every later one.
  void abort();

  void count(const Traffic& traffic);
  Traffic traffic() const;

 private:
  mutable std::mutex mutex_;
  Traffic traffic_;
  std::set<Transfer*> under_way_;
  bool aborted_ = false;
};

/// Moves chunks between some ranks with one tag. Ranks count in the order of `world_ranks`.
class Exchange {
 public:
  /// Chunks in flight. Abandoned if it is destroyed before wait().
  class Moving {
   public:
    Moving() = default;
    Moving(std::unique_ptr<Transfer> transfer, Transfers& transfers, Deadline deadline);
    Moving(Moving&& other) noexcept;
    Moving& operator=(Moving&& other) noexcept;
    ~Moving();
    void wait();

   private:
    std::unique_ptr<Transfer> transfer_;
    Transfers* transfers_ = nullptr;
    Deadline deadline_;
  };

  Exchange(Transport& transport, Transfers& transfers, int tag, std::span<const int> world_ranks,
           int rank, Deadline deadline)
      : transport_(transport),
        transfers_(transfers),
        tag_(tag),
        world_ranks_(world_ranks),
        rank_(rank),
        deadline_(deadline) {}

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(world_ranks_.size()); }

  /// Empty chunks are skipped. No chunk may be for or from this rank.
  Moving begin(std::vector<Chunk> sends, std::vector<Chunk> receives) const;
  void move(std::vector<Chunk> sends, std::vector<Chunk> receives) const;

 private:
  Transport& transport_;
  Transfers& transfers_;
  int tag_;
  std::span<const int> world_ranks_;
  int rank_;
  Deadline deadline_;
};

/// Executes a collective by moving chunks: docs/algorithms.md.
void move_by_chunks(const Operation& operation, const Exchange& exchange);

/// Executes a collective whose data has traveled in the announcements: `inputs[r]` is rank r's
/// `in`.
void finish_from_inputs(const Operation& operation, int rank, std::span<const char* const> inputs);

}  // namespace trireme::message
