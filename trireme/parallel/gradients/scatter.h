#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/zeroed_memory.h"
#include "trireme/comm/communicator.h"
#include "trireme/parallel/gradients/accumulator.h"
#include "trireme/parallel/gradients/bucket_layout.h"
#include "trireme/parallel/gradients/bucket_memory.h"
#include "trireme/parallel/gradients/bucket_pieces.h"

namespace trireme {

/// How the summed gradients are spread over ranks.
struct GradientParts {
  int parts = 1;         ///< of each bucket
  int part = 0;          ///< this rank's
  bool in_place = true;  ///< the sum stays in the bucket; if not, in memory of its own
  /// A rank may wait for the reduction of earlier buckets while it has gradients to give: no other
  /// rank then waits for this one in another communicator.
  bool may_wait = true;
  std::vector<int> units;   ///< of each parameter that requires a gradient; empty: all are one
  std::vector<int> owners;  ///< see BucketPieces
};

/// Sums buckets over ranks while backward runs, and leaves each rank its piece of the sum: a
/// reduce-scatter if there are as many parts as ranks. If ranks have the same part, an all-reduce,
/// as each piece goes to as many ranks as there are hosts, say, and a host receives all pieces.
///
/// Every rank starts the same buckets in the same order, each as soon as it and those before it are
/// complete on this rank.
class GradientScatter {
 public:
  /// What is passed by reference must outlive this object.
  GradientScatter(Communicator& ranks, const ReductionTree& tree, const BucketLayout& layout,
                  BucketMemory& memory, const GradientParts& parts);

  void begin(double divisor);
  /// Called before a gradient comes: lets earlier buckets finish that have the memory it needs.
  void make_room(std::size_t bucket);
  void start_complete(const GradientAccumulator& accumulator);
  /// Waits for all buckets, of which each must have been started.
  void wait();

  const BucketPieces& pieces() const { return pieces_; }
  /// After wait(): this rank's piece of the sum of a bucket. Always at the same place.
  Buffer sum(std::size_t bucket) const;

 private:
  struct Started {
    std::size_t bucket = 0;
    Work work;
  };

  bool scatters() const { return parts_ == ranks_.size(); }
  void start(std::size_t bucket);
  void finish_first();
  Buffer row(std::size_t bucket) const;

  Communicator& ranks_;
  const ReductionTree& tree_;
  const BucketLayout& layout_;
  BucketMemory& memory_;
  int parts_;
  int part_;
  bool in_place_;
  bool may_wait_;
  BucketPieces pieces_;
  std::vector<ZeroedMemory> sums_;  // of each bucket, unless in place
  double divisor_ = 1;
  std::size_t next_ = 0;
  std::deque<Started> started_;
};

}  // namespace trireme
