#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>

namespace trireme::message {

/// The end of one operation: one thread completes it and another waits for it. Thread-safe.
class Completion {
 public:
  /// The operation is done, or has failed with `error`. Only the first call counts.
  void complete(std::exception_ptr error = nullptr);

  bool is_complete() const;

  /// Blocks until the operation is complete. Throws its error, once: the error then belongs to the
  /// caller's thread alone.
  void wait();

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable completed_;
  bool is_complete_ = false;
  std::exception_ptr error_;
};

}  // namespace trireme::message
