#include "trireme/checkpoint/background_save.h"

#include <cstring>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"

namespace trireme {

namespace {

constexpr std::size_t kCacheLine = 64;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

}  // namespace

BackgroundSave::BackgroundSave(Communicator& ranks) : ranks_(ranks.split(0, ranks.rank())) {}

BackgroundSave::~BackgroundSave() {
  if (thread_.joinable()) thread_.join();
}

void BackgroundSave::start(std::span<const StateTensor> tensors, Write write) {
  if (is_open()) throw UsageError("background save: start() was called before wait()");
  copy(tensors);
  has_ended_ = false;
  thread_ = start_thread("background save", [this, write = std::move(write)] {
    try {
      write(*ranks_, copies_);
    } catch (...) {
      error_ = std::current_exception();
    }
    has_ended_ = true;
  });
}

void BackgroundSave::wait() {
  if (!is_open()) return;
  thread_.join();
  if (std::exception_ptr error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

void BackgroundSave::copy(std::span<const StateTensor> tensors) {
  std::size_t bytes = 0;
  for (const StateTensor& tensor : tensors) {
    if (tensor.is_written) bytes += aligned(tensor.values.bytes());
  }
  if (bytes > bytes_) {
    memory_ = ZeroedMemory();  // before the new one comes
    bytes_ = 0;
    memory_ = ZeroedMemory(bytes);
    bytes_ = bytes;
  }
  copies_.assign(tensors.begin(), tensors.end());
  std::byte* place = memory_.data();
  for (StateTensor& copy : copies_) {
    if (!copy.is_written || copy.values.count == 0) continue;
    std::memcpy(place, copy.values.data, copy.values.bytes());
    copy.values.data = place;
    place += aligned(copy.values.bytes());
  }
}

}  // namespace trireme
