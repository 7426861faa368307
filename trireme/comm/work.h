#pragma once

#include <memory>

namespace trireme {

/// A queue of work on a device: a cudaStream_t. Null: CUDA's default stream.
struct StreamRef {
  void* handle = nullptr;
};

/// An operation in progress on a communicator. Move-only; the destructor waits.
///
/// Between start and completion the operation's buffers belong to it. When it makes progress
/// depends on the backend (docs/threads.md):
/// - shared memory and one rank: inside wait() and test() of any Work of the communicator, inside
///   its progress() and its next operation. No other thread works for the caller.
/// - MPI, Gloo and ranks on several hosts: threads of the communicator move data at any time.
/// - NCCL: the ranks' calls are compared as above, which then queues the operation on the device;
///   from there on the device works by itself.
/// Code that should work on every backend therefore calls progress() (or test()) now and then while
/// it computes, and touches no buffer of an operation that is not done.
class Work {
 public:
  /// One operation of a backend.
  class State {
   public:
    virtual ~State() = default;
    virtual bool test() = 0;
    virtual void wait() = 0;
    virtual void wait(StreamRef) { wait(); }
  };

  /// A Work that is done.
  Work() = default;
  explicit Work(std::unique_ptr<State> state) : state_(std::move(state)) {}
  Work(Work&&) = default;
  Work& operator=(Work&& other) noexcept;
  ~Work();

  /// Advances as far as possible without blocking. Returns true once done. Throws as wait() does.
  bool test();

  /// Blocks until done. Throws UsageError on every rank if the ranks' calls differ, CommError if a
  /// peer is lost or does not come.
  void wait();

  /// For data on a device: returns once the operation is queued there, and makes `stream` wait for
  /// it: what is queued on `stream` from now on begins after the operation. This Work is then done;
  /// the buffers belong to the operation until the stream gets there. A failure on the device after
  /// that is thrown by the communicator's next call. For data of this process: the same as wait().
  void wait(StreamRef stream);

 private:
  std::unique_ptr<State> state_;
};

}  // namespace trireme
