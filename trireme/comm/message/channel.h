#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trireme/comm/message/exchange.h"
#include "trireme/comm/message/frame_dispatcher.h"

namespace trireme::message {

/// The part of a transport that belongs to one communicator: its ranks, its tags, and the transfers
/// and bytes of this rank. Ranks are those of the communicator unless they are called world ranks,
/// which are the transport's. Thread-safe.
class Channel {
 public:
  /// Threads that move collectives; each has two tags of its own, 2 * worker and the next.
  static constexpr int kWorkers = 2;
  static constexpr int kMessageTag = 2 * kWorkers;
  static constexpr int kTags = kMessageTag + 1;

  /// `rank` is that of this process among `world_ranks`; `timeout` is that of transfers.
  Channel(std::shared_ptr<FrameDispatcher> dispatcher, std::uint32_t number, int rank,
          std::vector<int> world_ranks, std::chrono::milliseconds timeout);

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(world_ranks_.size()); }
  std::uint32_t number() const { return number_; }
  const std::vector<int>& world_ranks() const { return world_ranks_; }
  /// Returns -1 if the rank is not part of the communicator.
  int rank_of(int world_rank) const;
  /// The names of the ranks in errors: "rank 1 (rank 3 of the world)".
  std::vector<std::string> names() const;

  /// Returns at once.
  void send(int to, Frame frame);
  void send_to_all(Frame frame);

  /// Moves chunks with `tag`, until deadline(), between the ranks of this communicator or between
  /// `world_ranks`, of which this one is the `rank`-th. `world_ranks` must outlive it.
  Exchange exchange(int tag) { return exchange(tag, world_ranks_, rank_); }
  Exchange exchange(int tag, std::span<const int> world_ranks, int rank);

  /// The time at which a transfer that starts now times out. Transports wait in real time.
  Deadline deadline() const { return std::chrono::steady_clock::now() + timeout_; }

  Transfers& transfers() { return transfers_; }
  const Transfers& transfers() const { return transfers_; }
  Transport& transport() { return dispatcher_->transport(); }
  const std::shared_ptr<FrameDispatcher>& dispatcher() const { return dispatcher_; }

 private:
  void transmit(int to, const Frame& frame);

  std::shared_ptr<FrameDispatcher> dispatcher_;
  std::uint32_t number_;
  int rank_;
  std::vector<int> world_ranks_;
  std::chrono::milliseconds timeout_;
  Transfers transfers_;
};

}  // namespace trireme::message
