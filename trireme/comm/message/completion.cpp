#include "trireme/comm/message/completion.h"

#include <utility>

namespace trireme::message {

void Completion::complete(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (is_complete_) return;
  is_complete_ = true;
  error_ = std::move(error);
  // The mutex is held here, because the waiting thread may destroy this object once it is released.
  completed_.notify_all();
}

bool Completion::is_complete() const {
  const std::lock_guard lock(mutex_);
  return is_complete_;
}

void Completion::wait() {
  std::unique_lock lock(mutex_);
  completed_.wait(lock, [&] { return is_complete_; });
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace trireme::message
