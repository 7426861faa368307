#include "tests/nccl/fake_cuda.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

#include "trireme/base/random.h"
#include "trireme/comm/nccl/tree_sum-inl.h"

namespace {

using namespace std::chrono_literals;

std::atomic<int> queued = 0;

/// A thread that does what it is given, in order and not at once.
class Queue {
 public:
  explicit Queue(int device) : device_(device) {
    thread_ = std::thread([this] { run(); });
  }

  ~Queue() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  int device() const { return device_; }

  void add(std::function<void()> work) {
    ++queued;
    {
      const std::lock_guard lock(mutex_);
      work_.push_back(std::move(work));
    }
    changed_.notify_all();
  }

  void drain() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return work_.empty(); });
  }

 private:
  void run() {
    const trireme::CounterRandom random(11, static_cast<std::uint64_t>(device_));
    std::unique_lock lock(mutex_);
    for (std::uint64_t turn = 0;; ++turn) {
      changed_.wait(lock, [&] { return closing_ || !work_.empty(); });
      if (work_.empty()) return;
      const std::function<void()>& work = work_.front();  // stays where it is while others come
      lock.unlock();
      // Whoever does not wait for a stream finds it late now and then.
      if (random.bits(turn) % 8 == 0) std::this_thread::sleep_for(200us);
      work();
      lock.lock();
      work_.pop_front();
      --queued;
      changed_.notify_all();
    }
  }

  int device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool closing_ = false;
  std::thread thread_;
};

/// A point in a queue, each time it is recorded a new one.
struct Point {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false;
};

struct Block {
  std::size_t bytes = 0;
  int device = 0;
};

class Machine {
 public:
  static Machine& one() {
    // Never destroyed: streams may outlive main().
    static Machine* machine = new Machine;
    return *machine;
  }

  int devices() {
    const std::lock_guard lock(mutex_);
    return devices_;
  }
  void set_devices(int count) {
    const std::lock_guard lock(mutex_);
    devices_ = count;
  }

  Queue& default_queue(int device) {
    const std::lock_guard lock(mutex_);
    auto& queue = default_queues_[device];
    if (!queue) queue = std::make_unique<Queue>(device);
    return *queue;
  }

  void* allocate(std::size_t bytes, int device) {
    void* data = ::operator new(bytes, std::align_val_t(256));
    std::memset(data, 0xA5, bytes);
    const std::lock_guard lock(mutex_);
    blocks_[static_cast<char*>(data)] = {bytes, device};
    return data;
  }

  void free(void* data) {
    {
      const std::lock_guard lock(mutex_);
      const auto block = blocks_.find(static_cast<char*>(data));
      if (block == blocks_.end()) {
        offences_.push_back("memory was freed that is not the device's");
        return;
      }
      std::memset(data, 0x5A, block->second.bytes);
      blocks_.erase(block);
    }
    ::operator delete(data, std::align_val_t(256));
  }

  const Block* block_at(const void* data, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const char* begin = static_cast<const char*>(data);
    auto after = blocks_.upper_bound(const_cast<char*>(begin));
    if (after == blocks_.begin()) return nullptr;
    const auto& [base, block] = *--after;
    return begin + bytes <= base + block.bytes ? &block : nullptr;
  }

  std::size_t bytes_in_use() {
    const std::lock_guard lock(mutex_);
    std::size_t bytes = 0;
    for (const auto& [base, block] : blocks_) bytes += block.bytes;
    return bytes;
  }

  void report(std::string text) {
    const std::lock_guard lock(mutex_);
    offences_.push_back(std::move(text));
  }
  std::vector<std::string> take_offences() {
    const std::lock_guard lock(mutex_);
    return std::exchange(offences_, {});
  }

 private:
  std::mutex mutex_;
  int devices_ = 8;
  std::map<int, std::unique_ptr<Queue>> default_queues_;
  std::map<char*, Block> blocks_;
  std::vector<std::string> offences_;
};

thread_local int current_device = 0;

Queue& queue_of(cudaStream_t stream) {
  if (!stream) return Machine::one().default_queue(current_device);
  auto& queue = *reinterpret_cast<Queue*>(stream);
  if (queue.device() != current_device) {
    Machine::one().report("a stream was used while another device was current");
  }
  return queue;
}

std::shared_ptr<Point>& point_of(cudaEvent_t event) {
  return *reinterpret_cast<std::shared_ptr<Point>*>(event);
}

}  // namespace

namespace trireme::test::fake {

void queue(cudaStream_t stream, std::function<void()> work) {
  queue_of(stream).add(std::move(work));
}
void wait_until_idle() {
  while (queued > 0) std::this_thread::sleep_for(1ms);
}
void set_device_count(int count) {
  Machine::one().set_devices(count);
}
std::size_t bytes_in_use() {
  return Machine::one().bytes_in_use();
}
std::vector<std::string> take_offences() {
  return Machine::one().take_offences();
}
void report_offence(std::string text) {
  Machine::one().report(std::move(text));
}
bool is_device_memory(const void* data, std::size_t bytes) {
  return Machine::one().block_at(data, bytes) != nullptr;
}

}  // namespace trireme::test::fake

// The kernel, on the stream's thread.
namespace trireme::nccl {

void tree_sum(const TreeSum& sum, cudaStream_t stream) {
  test::fake::queue(stream, [sum] {
    with_type(sum.dtype, [&](auto type) {
      for (std::int64_t i = 0; i < sum.count; ++i) sum_element<decltype(type)>(sum, i);
    });
  });
}

}  // namespace trireme::nccl

using trireme::test::fake::is_device_memory;
using trireme::test::fake::queue;
using trireme::test::fake::report_offence;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = Machine::one().devices();
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return Machine::one().devices() > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= Machine::one().devices()) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int bytes, int device) {
  std::snprintf(text, static_cast<std::size_t>(bytes), "0000:%02x:00.0", device);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  *attributes = {};
  attributes->type = cudaMemoryTypeUnregistered;
  if (const Block* block = Machine::one().block_at(data, 1)) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->device = block->device;
  }
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  *data = Machine::one().allocate(bytes, current_device);
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  Machine::one().free(data);
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t) {
  return cudaMalloc(data, bytes);
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  queue(stream, [data] { Machine::one().free(data); });
  return cudaSuccess;
}

cudaError_t cudaMemset(void* data, int value, std::size_t bytes) {
  if (!is_device_memory(data, bytes)) return cudaErrorInvalidValue;
  queue(nullptr, [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  if (is_device_memory(from, bytes)) {
    queue(stream, [=] { std::memcpy(to, from, bytes); });
  } else {
    // Pageable memory is read before the call returns.
    const char* begin = static_cast<const char*>(from);
    queue(stream, [to, staged = std::vector<char>(begin, begin + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
    });
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return cudaStreamSynchronize(nullptr);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking) report_offence("a stream that waits for the default stream");
  *stream = reinterpret_cast<cudaStream_t>(new Queue(current_device));
  return cudaSuccess;
}

// Returns at once; what is queued is done first.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::thread([queue = reinterpret_cast<Queue*>(stream)] { delete queue; }).detach();
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  queue_of(stream).drain();
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  queue(stream, [point = point_of(event)] {
    std::unique_lock lock(point->mutex);
    point->changed.wait(lock, [&] { return point->reached; });
  });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  auto point = std::make_shared<Point>();
  point->reached = true;
  *event = reinterpret_cast<cudaEvent_t>(new std::shared_ptr<Point>(std::move(point)));
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  point_of(event) = std::make_shared<Point>();
  queue(stream, [point = point_of(event)] {
    const std::lock_guard lock(point->mutex);
    point->reached = true;
    point->changed.notify_all();
  });
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(point_of(event)->mutex);
  return point_of(event)->reached ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<std::shared_ptr<Point>*>(event);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorNoDevice ? "no CUDA-capable device is detected" : "a fake CUDA error";
}

}  // extern "C"
