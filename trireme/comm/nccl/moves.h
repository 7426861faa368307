#pragma once

#include "trireme/base/partition.h"
#include "trireme/comm/nccl/link.h"
#include "trireme/comm/operation.h"

namespace trireme::nccl {

/// Queues collectives on one stream: docs/algorithms.md.
class Moves {
 public:
  Moves(Link& link, cudaStream_t stream, int rank, int size, Watch watch, Deadline deadline)
      : link_(link),
        stream_(stream),
        rank_(rank),
        size_(size),
        watch_(std::move(watch)),
        deadline_(deadline) {}

  /// `reproducible`: sums are taken in the order of the ReductionTree, else in NCCL's where it has
  /// the call.
  void carry_out(const Operation& operation, bool reproducible);

 private:
  void reduce_by_tree(const Operation& operation);
  void reduce_slice(const Operation& operation, Range elements, void* term_rows,
                    const void* merges);
  void reduce_natively(const Operation& operation);
  void divide(const Operation& operation);
  void all_gather(const Operation& operation);
  void broadcast(const Operation& operation);
  void move_directly(const Operation& operation);

  void copy(const Buffer& to, const Buffer& from);
  void send(const Buffer& x, int to);
  void receive(const Buffer& x, int from);
  template <class Calls>
  void group_call(Calls calls) {
    link_.group_call(watch_, deadline_, calls);
  }
  template <class Body>
  void for_each_peer(Body body) const {
    for (int step = 1; step < size_; ++step) body((rank_ + step) % size_);
  }

  Link& link_;
  cudaStream_t stream_;
  int rank_;
  int size_;
  Watch watch_;
  Deadline deadline_;
};

}  // namespace trireme::nccl
