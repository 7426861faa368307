#pragma once

#include <memory>

namespace trireme {

/// An operation under way on a communicator. Move-only; the destructor waits.
///
/// Operations make progress inside wait() and test() of any Work of their communicator and inside
/// its next operation: no thread runs behind the caller's back. Between start and completion the
/// operation's buffers belong to it.
class Work {
 public:
  /// One operation of a backend.
  class State {
   public:
    virtual ~State() = default;
    virtual bool test() = 0;
    virtual void wait() = 0;
  };

  /// A Work that is done.
  Work() = default;
  explicit Work(std::unique_ptr<State> state) : state_(std::move(state)) {}
  Work(Work&&) = default;
  Work& operator=(Work&& other);
  ~Work();

  /// Moves on as far as possible without blocking; true once done. Throws as wait() does.
  bool test();

  /// Blocks until done. Throws UsageError on every rank if the ranks' calls differ, CommError if a
  /// peer is lost or does not come.
  void wait();

 private:
  std::unique_ptr<State> state_;
};

}  // namespace trireme
