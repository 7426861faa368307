#pragma once

#include <cstdint>
#include <vector>

#include "trireme/comm/semantics.h"
#include "trireme/comm/shm/peers.h"

namespace trireme::shm {

/// The pointers that a reduction is called with: kept from one operation to the next.
struct Scratch {
  std::vector<void*> outs;
  std::vector<const void*> terms;
};

/// One collective operation on one rank: a state machine that is moved on by whoever waits.
///
/// Every rank publishes a descriptor (what it calls, where its data lies) and compares all ranks'
/// before it touches data. What then happens depends on how large the data is and where it lies:
///
/// - inline: the data is in the descriptors; every rank takes what it needs, nobody waits again.
///   So too, with no data, where that lies on devices;
/// - direct: each rank reads its peers' buffers where they lie, and waits until all are done;
/// - staged: ranks whose buffer is out of the others' sight copy it through their two staging
///   buffers, chunk by chunk; the address of a chunk is all that differs from `direct`.
///
/// In the reductions that leave the whole sum somewhere, rank r reduces slice r of every chunk and
/// writes it into every buffer that wants it. In all others each rank writes its own buffer only.
/// docs/algorithms.md has steps and bytes.
class Collective {
 public:
  /// `number`: counted from 1 in the order of the calls.
  Collective(const Operation& operation, std::uint64_t number, Peers& peers, Scratch& scratch);

  /// Publishes the descriptor. Its place in the ring must be free.
  void post();

  /// Moves on as far as possible; true if anything moved. `base`: phases behind this operation.
  /// Throws UsageError if the ranks' calls differ.
  bool advance(std::uint64_t base);

  bool done() const { return done_; }
  /// The rank that it waits for; valid after advance() returned with done() false.
  int awaited() const { return awaited_; }
  /// The phases that it has added to all ranks' progress; valid once done.
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
  // In the staging buffer `stage` of a rank; in what this rank sees of `peer`.
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
