#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"
#include "trireme/base/source_location.h"
#include "trireme/comm/memory.h"
#include "trireme/comm/traffic.h"
#include "trireme/comm/work.h"
#include "trireme/kernels/reduce.h"
#include "trireme/kernels/reduction_tree.h"

namespace trireme {

class DeviceLane;
struct Operation;

/// A communicator connects size() ranks that call the same operations in the same order.
///
///     auto world = connect();
///     world->all_reduce(gradients).wait();
///
/// Counts, types, roots and order must agree between the ranks; if they do not, every rank throws
/// the same UsageError and the communicator can no longer be used. `where` is the place of the call
/// and is filled in by default. One thread per rank may use a communicator at a time; different
/// communicators are independent. A call that finds another thread inside a call throws UsageError
/// and changes nothing; this is a check for mistakes and no lock. With size() == 1 every operation
/// works and moves nothing. Buffers need the alignment of their elements; buffers in memory of
/// allocate() are not copied on the way. In builds with NCCL the buffers of a call may lie on CUDA
/// devices (Buffer::device), those of one rank always on the same one: comm/nccl/nccl.h. Other
/// builds throw UsageError.
class Communicator {
 public:
  virtual ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// For logs: "shared memory", "gloo, 4 ranks on 2 hosts, sums in tree order".
  virtual std::string description() const = 0;

  /// Collective. The ranks may ask for different amounts, also for none. Memory on a device is
  /// visible to this rank only.
  Memory allocate(std::size_t bytes, SourceLocation where = SourceLocation::current());
  Memory allocate(std::size_t bytes, Device device,
                  SourceLocation where = SourceLocation::current());

  /// x becomes `op` over all ranks' x, in the order of ReductionTree(size(), size()).
  Work all_reduce(Buffer x, ReduceOp op = ReduceOp::kSum,
                  SourceLocation where = SourceLocation::current());

  /// The sum over `tree.virtual_workers()` virtual workers, divided by `divisor`. x: [k, n], one
  /// row of n elements for each of the k = tree.nodes_of(rank()) nodes that this rank has summed.
  /// The result is left in row 0; the other rows are lost. The sum is divided in the type it is
  /// taken in (f32 for f16 and bf16) before it is rounded; with a divisor of 1 it is not divided.
  /// `tree` must have size() ranks and outlive the operation. Throws UsageError unless `divisor` is
  /// finite and greater than 0, and 1 for integers.
  Work all_reduce(Buffer x, const ReductionTree& tree, double divisor = 1,
                  SourceLocation where = SourceLocation::current());

  /// Sums each rank's `in` and leaves the r-th piece of the sum on rank r.
  /// `in`: [size() * n], `out`: [n]; they must not overlap, unless out is the r-th piece of in.
  Work reduce_scatter(Buffer out, Buffer in, ReduceOp op = ReduceOp::kSum,
                      SourceLocation where = SourceLocation::current());

  /// The same over a tree of virtual workers, as all_reduce does it. `in`: [k, N], one row for each
  /// node of this rank. Rank r gets piece r of the sum divided by `divisor`. Piece r has
  /// `counts[r]` elements, the pieces follow one another, and N is the sum of the counts. Without
  /// `counts` every piece has out.count elements. The rows are not changed, except that `out` may
  /// be piece r of row 0.
  Work reduce_scatter(Buffer out, Buffer in, const ReductionTree& tree, double divisor = 1,
                      std::span<const std::int64_t> counts = {},
                      SourceLocation where = SourceLocation::current());

  /// `in`: [n], `out`: [size() * n], rank r's `in` at its r-th piece; `in` may be that piece.
  Work all_gather(Buffer out, Buffer in, SourceLocation where = SourceLocation::current());

  /// Piece r of `in` goes to rank r; piece r of `out` comes from rank r. Both [size() * n], apart.
  Work all_to_all(Buffer out, Buffer in, SourceLocation where = SourceLocation::current());

  /// The same with pieces of different sizes, one after the other: `counts[r]` elements are rank
  /// r's. A count may be 0. All ranks must give the same counts.
  Work reduce_scatter(Buffer out, Buffer in, std::span<const std::int64_t> counts,
                      ReduceOp op = ReduceOp::kSum,
                      SourceLocation where = SourceLocation::current());
  Work all_gather(Buffer out, Buffer in, std::span<const std::int64_t> counts,
                  SourceLocation where = SourceLocation::current());
  /// Here each rank has its own counts: it sends in_counts[r] elements to rank r and receives
  /// out_counts[r] from it, which must be the number that rank r sends.
  Work all_to_all(Buffer out, std::span<const std::int64_t> out_counts, Buffer in,
                  std::span<const std::int64_t> in_counts,
                  SourceLocation where = SourceLocation::current());

  Work broadcast(Buffer x, int root, SourceLocation where = SourceLocation::current());

  /// As all_reduce, with the result on `root` alone; on the other ranks x is left undefined.
  Work reduce(Buffer x, int root, ReduceOp op = ReduceOp::kSum,
              SourceLocation where = SourceLocation::current());

  /// `out`: [size() * n] on root, ignored elsewhere. `in`: [n].
  Work gather(Buffer out, Buffer in, int root, SourceLocation where = SourceLocation::current());

  /// `in`: [size() * n] on root, ignored elsewhere. `out`: [n].
  Work scatter(Buffer out, Buffer in, int root, SourceLocation where = SourceLocation::current());

  /// Messages between two ranks are matched by tag and, within a tag, in order. If count or type
  /// differ, recv throws a UsageError that names both, and the communicator can still be used. A
  /// rank may send to itself. Start both calls before waiting for either: a send may wait for its
  /// recv.
  Work send(Buffer x, int to, int tag = 0, SourceLocation where = SourceLocation::current());
  Work recv(Buffer x, int from, int tag = 0, SourceLocation where = SourceLocation::current());

  /// Returns once every rank has called it.
  void barrier(SourceLocation where = SourceLocation::current());

  /// The same with a timeout of its own in place of the communicator's, greater than 0. It is no
  /// part of what ranks must agree on. After it the communicator is over, as after any timeout.
  void barrier(std::chrono::milliseconds timeout, SourceLocation where = SourceLocation::current());

  /// Bytes that this rank has moved through this communicator so far; communicators split from it
  /// count for themselves. Across hosts: bytes passed to the transport, including control messages,
  /// excluding shared memory; for native collectives data_of(). In shared memory: data_of() of each
  /// call. Any thread that may use the communicator may call it.
  Traffic traffic() const;

  /// Advances the operations in progress as far as possible without blocking.
  void progress();

  /// Throws the error that has ended this communicator, or CommError if a peer is lost or has
  /// failed. A peer that has left in good order is neither.
  virtual void check() = 0;

  /// Ends this communicator on this rank; may be called from any thread. Calls in progress and
  /// later ones throw `error`; peers that need this rank learn that it has left.
  virtual void abort(std::exception_ptr error) = 0;

  /// Collective. The ranks that gave the same `color` form a communicator, ordered by (key, rank);
  /// a negative color gives null.
  std::unique_ptr<Communicator> split(int color, int key = 0,
                                      SourceLocation where = SourceLocation::current());

  /// Collective. The ranks that give the same list `ranks` form a communicator in the order of the
  /// list; a rank that is not in its list gets null. Throws UsageError for ranks that are not of
  /// this communicator or twice in the list, and if the listed ranks do not all give the same list.
  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      SourceLocation where = SourceLocation::current());

  /// From this call on, `lane` executes operations on device memory, for this communicator and
  /// those that are split from it. All ranks must call it, or none.
  void carry_devices(std::unique_ptr<DeviceLane> lane);

 protected:
  Communicator(int rank, int size);

  /// Marks the communicator as used by this thread as long as it lives; may be nested. Backends
  /// whose Works advance operations hold one there. Two loads and two stores.
  class Use {
   public:
    /// Throws UsageError that names `call` if another thread uses the communicator.
    Use(Communicator& communicator, const char* call) {
      const void* const user = communicator.user_.load(std::memory_order_relaxed);
      if (user == this_thread()) return;
      if (user != nullptr) communicator.refuse_second_thread(call);
      communicator.user_.store(this_thread(), std::memory_order_relaxed);
      used_ = &communicator;
    }
    ~Use() {
      if (used_ != nullptr) used_->user_.store(nullptr, std::memory_order_relaxed);
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    static const void* this_thread() {
      static constinit thread_local char here = 0;
      return &here;
    }
    Communicator* used_ = nullptr;
  };

 private:
  Work begin(const Operation& operation);
  [[noreturn]] void refuse_second_thread(const char* call) const;
  DeviceLane& device_lane(const char* call) const;

  void check_rank(const char* call, const char* what, int rank) const;
  void check_buffer(const char* call, const char* what, const Buffer& x) const;
  void check_count(const char* call, const char* what, const Buffer& x, std::int64_t count) const;
  void check_alike(const char* call, const Buffer& out, const Buffer& in) const;
  void check_op(const char* call, const Buffer& x, ReduceOp op) const;
  void check_apart(const char* call, const Buffer& out, const Buffer& in,
                   std::int64_t allowed) const;
  void check_counts(const char* call, const char* what, std::span<const std::int64_t> counts) const;
  void check_tree(const char* call, const ReductionTree& tree) const;
  Work scatter_sum(Buffer out, Buffer in, ReduceOp op, const ReductionTree& tree, double divisor,
                   std::span<const std::int64_t> counts, SourceLocation where);

  friend class DeviceLane;

  // The functions of a backend; the arguments have been checked. start() copies `operation`. Of a
  // call on device memory it compares the ranks' calls and does not touch the data.
  virtual Work start(const Operation& operation) = 0;
  virtual Memory do_allocate(std::size_t bytes, SourceLocation where) = 0;
  virtual std::unique_ptr<Communicator> do_split(int color, int key, SourceLocation where) = 0;
  virtual void do_progress() {}
  virtual Traffic own_traffic() const { return {}; }

  int rank_;
  int size_;
  ReductionTree tree_;
  std::unique_ptr<DeviceLane> device_lane_;
  std::atomic<const void*> user_ = nullptr;  // the thread that is inside a call
};

}  // namespace trireme
