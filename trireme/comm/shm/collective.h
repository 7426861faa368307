#pragma once

#include <cstdint>
#include <vector>

#include "trireme/comm/semantics.h"
#include "trireme/comm/shm/peers.h"

namespace trireme::shm {

/// Memory for the pointers of a reduction, which is reused from one operation to the next.
struct Scratch {
  std::vector<void*> outs;
  std::vector<const void*> terms;
};

/// One collective operation on one rank: a state machine that the waiting thread advances.
///
/// Every rank publishes a descriptor (its call and where its data lies) and compares the
/// descriptors of all ranks before it touches data. The next steps depend on how large the data is
/// and where it lies:
///
/// - inline: the data is in the descriptors; every rank reads what it needs, without a second wait.
/// Data on devices, which does not move here, is inline too;
/// - direct: each rank reads its peers' buffers in place, and waits until all ranks are done;
/// - staged: ranks whose buffers are invisible to others copy them through their two staging
/// buffers, chunk by chunk; other than in the addresses of the chunks this is `direct`.
/// In an all_reduce or reduce, rank r reduces slice r of every chunk and writes it to every buffer
/// that gets the sum. In all other operations each rank writes to its own buffer only.
/// docs/algorithms.md has steps and bytes.
class Collective {
 public:
  /// `number` counts the calls from 1.
  Collective(const Operation& operation, std::uint64_t number, Peers& peers, Scratch& scratch);

  /// Publishes the descriptor. Its place in the ring must be free.
  void post();

  /// Advances as far as possible; returns true if anything has changed. `base` is the number of
  /// phases before this operation. Throws UsageError if the ranks' calls differ.
  bool advance(std::uint64_t base);

  bool done() const { return done_; }
  /// Returns the rank that it waits for. Requires that advance() has returned and done() is false.
  int awaited() const { return awaited_; }
  /// Returns the phases that it has added to all ranks' progress. Requires done().
  std::uint64_t phases() const { return 2 * chunks_ + 1; }

  std::uint64_t number() const { return number_; }
  const Operation& operation() const { return operation_; }

 private:
  /// Elements of every row or piece that move at a time.
  struct Chunk {
    std::int64_t index = 0;
    Range elements;
  };
  enum class Next : std::uint8_t { kMatch, kFill, kUse, kDrain };

  bool step(std::uint64_t base);
  bool all_posted();
  void compare_calls() const;
  void plan();
  bool filled(std::uint64_t base);
  bool used(std::uint64_t base);

  void fill(const Chunk& chunk);
  void use(const Chunk& chunk);
  void drain(const Chunk& chunk);
  void reduce(const Chunk& chunk, Range elements);
  void copy(const Chunk& chunk, int from);

  bool sums_slices() const { return trireme::sums_slices(operation_); }
  bool is_read(int peer) const { return gives_others(operation_, peers_->size(), peer); }
  bool wants(int peer) const { return gets_from_others(operation_, peers_->size(), peer); }
  int pieces_of_row() const;

  bool is_staged(int peer) const;
  std::int64_t longest_piece() const;
  Chunk chunk(std::int64_t index) const;
  Range slice_of(const Chunk& chunk, int peer) const;
  std::int64_t offset_of(int peer, int row, int piece) const;
  // The address in the staging buffer `stage` of a rank, and in the memory of `peer` that this rank
  // reads.
  char* address(const Chunk& chunk, char* stage, int row, int piece, std::int64_t element) const;
  char* address(const Chunk& chunk, int peer, int row, int piece, std::int64_t element) const;

  Operation operation_;
  std::uint64_t number_;
  Peers* peers_;
  Scratch* scratch_;
  std::size_t element_;
  bool inline_;
  bool any_staged_ = false;
  std::int64_t longest_ = 0;      // elements of the longest piece
  std::int64_t chunks_ = 0;       // none if inline
  std::int64_t chunk_count_ = 0;  // elements of a full chunk
  std::int64_t at_ = 0;           // index of the chunk under way
  Next next_ = Next::kMatch;
  int awaited_ = 0;
  bool done_ = false;
};

}  // namespace trireme::shm
