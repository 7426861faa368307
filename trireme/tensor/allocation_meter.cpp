#include "trireme/tensor/allocation_meter.h"

#include <c10/core/Allocator.h>
#include <torch/version.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "trireme/base/error.h"

namespace trireme {

namespace {

/// Libtorch's allocator, and a table of what it has given.
///
/// The memory is that of libtorch's allocator and not a part of it with a header before: oneDNN's
/// caches return memory to whichever allocator is there then, also what they got before or during a
/// meter. Libtorch also tells a profiler of allocations (c10::MemoryReportingInfoBase), but only of
/// those of threads that have its state: not of a loader's and OpenMP's.
class CountingAllocator final : public c10::Allocator {
 public:
  // Storages keep a pointer to their allocator, also when a meter is gone: it lives forever.
  static CountingAllocator& only() {
    static auto& allocator = *new CountingAllocator;
    return allocator;
  }

#if TORCH_VERSION_MAJOR >= 2
  c10::DataPtr allocate(std::size_t bytes) override {
    return only().allocate_counted(bytes);
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
#else
  c10::DataPtr allocate(std::size_t bytes) const override {
    return only().allocate_counted(bytes);
  }
#endif
  c10::DeleterFnPtr raw_deleter() const override {
    return &free_counted;
  }

  void begin() {
    c10::Allocator* const current = c10::GetAllocator(c10::DeviceType::CPU);
    if (current == this) {
      throw UsageError("allocation meter: a process has one at a time, and another one counts");
    }
    if (current->raw_deleter() == nullptr) {
      throw UsageError(
          "allocation meter: the allocator of libtorch must have a deleter of its own, and that of "
          "this program has none");
    }
    const std::lock_guard lock(mutex_);
    base_ = current;
    bytes_of_.clear();
    live_ = 0;
    peak_ = 0;
    c10::SetAllocator(c10::DeviceType::CPU, this);
  }
  void end() {
    c10::SetAllocator(c10::DeviceType::CPU, base_);
  }

  std::int64_t live() {
    const std::lock_guard lock(mutex_);
    return live_;
  }
  std::int64_t take_peak() {
    const std::lock_guard lock(mutex_);
    return std::exchange(peak_, live_);
  }

 private:
  c10::DataPtr allocate_counted(std::size_t bytes) {
    c10::DataPtr memory = base_->allocate(bytes);
    void* const start = memory.get();
    if (start == nullptr) return memory;
    const c10::Device device = memory.device();
    memory.release_context();
    const std::lock_guard lock(mutex_);
    bytes_of_[start] = static_cast<std::int64_t>(bytes);
    live_ += static_cast<std::int64_t>(bytes);
    peak_ = std::max(peak_, live_);
    return {start, start, &free_counted, device};
  }

  static void free_counted(void* start) {
    CountingAllocator& self = only();
    {
      const std::lock_guard lock(self.mutex_);
      if (const auto found = self.bytes_of_.find(start); found != self.bytes_of_.end()) {
        self.live_ -= found->second;
        self.bytes_of_.erase(found);
      }
    }
    self.base_->raw_deleter()(start);
  }

  c10::Allocator* base_ = nullptr;
  std::mutex mutex_;
  std::unordered_map<void*, std::int64_t> bytes_of_;  // of what the meter counts
  std::int64_t live_ = 0;
  std::int64_t peak_ = 0;
};

}  // namespace

AllocationMeter::AllocationMeter() {
  CountingAllocator::only().begin();
}

AllocationMeter::~AllocationMeter() {
  CountingAllocator::only().end();
}

std::int64_t AllocationMeter::live_bytes() const {
  return CountingAllocator::only().live();
}

std::int64_t AllocationMeter::take_peak() {
  return CountingAllocator::only().take_peak();
}

}  // namespace trireme
