#include "trireme/comm/work.h"

#include "trireme/base/error.h"

namespace trireme {

namespace {

// The error of a Work that is dropped is not lost: the next call of the communicator throws it
// again.
void wait_quietly(Work& work) {
  try {
    work.wait();
  } catch (const Error&) {
  }
}

}  // namespace

Work& Work::operator=(Work&& other) noexcept {
  wait_quietly(*this);
  state_ = std::move(other.state_);
  return *this;
}

Work::~Work() {
  wait_quietly(*this);
}

bool Work::test() {
  if (state_ && state_->test()) state_.reset();
  return !state_;
}

void Work::wait() {
  // The operation is moved out first, so that this Work is done also if it throws.
  if (const auto state = std::move(state_)) state->wait();
}

void Work::wait(StreamRef stream) {
  if (const auto state = std::move(state_)) state->wait(stream);
}

}  // namespace trireme
