#include "trireme/bench/exercise.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <span>

#include "trireme/comm/nccl/nccl.h"

namespace trireme::bench {

namespace {

constexpr std::size_t kAlignment = 64;

template <class T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

// The f16 of a whole number below 2048, which has one.
std::uint16_t f16_of(unsigned value) {
  if (value == 0) return 0;
  const unsigned exponent = std::bit_width(value) - 1U;
  return static_cast<std::uint16_t>(((exponent + 15) << 10) | ((value << (10 - exponent)) & 0x3ff));
}

/// The numbers 0 to 256 as elements of a type: bf16 holds no more of them exactly.
class Numbers {
 public:
  static constexpr int kLargest = 256;

  explicit Numbers(DType dtype) : size_(size_of(dtype)), bytes_((kLargest + 1) * size_) {
    for (int value = 0; value <= kLargest; ++value) {
      encode(dtype, value, bytes_.data() + static_cast<std::size_t>(value) * size_);
    }
  }

  void write(Buffer x, std::int64_t i, int value) const {
    std::memcpy(static_cast<std::byte*>(x.data) + static_cast<std::size_t>(i) * size_,
                bytes_.data() + static_cast<std::size_t>(value) * size_, size_);
  }
  bool equal(Buffer x, std::int64_t i, int value) const {
    return std::memcmp(static_cast<std::byte*>(x.data) + static_cast<std::size_t>(i) * size_,
                       bytes_.data() + static_cast<std::size_t>(value) * size_, size_) == 0;
  }

 private:
  static void encode(DType dtype, int value, std::byte* at) {
    switch (dtype) {
      case DType::kF32:
        return put(at, static_cast<float>(value));
      case DType::kF64:
        return put(at, static_cast<double>(value));
      case DType::kF16:
        return put(at, f16_of(static_cast<unsigned>(value)));
      case DType::kBF16:
        return put(at, static_cast<std::uint16_t>(
                           std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16));
      case DType::kI32:
        return put(at, static_cast<std::int32_t>(value));
      case DType::kI64:
        return put(at, static_cast<std::int64_t>(value));
      case DType::kU8:
        return put(at, static_cast<std::uint8_t>(value));
    }
  }

  std::size_t size_;
  std::vector<std::byte> bytes_;
};

/// The value of rank `rank` at index i: never zero, so that an element that was not written is
/// found, and so small that the sum over all ranks is a number of Numbers.
struct Values {
  int most;

  Values(bool summed, int ranks)
      : most(std::max(1, summed ? (Numbers::kLargest - 1) / ranks : Numbers::kLargest - 1)) {}

  int of(int rank, std::int64_t i) const {
    return 1 + static_cast<int>((i * 7 + std::int64_t{rank} * 13) % most);
  }
  int sum(int ranks, std::int64_t i) const {
    int sum = 0;
    for (int rank = 0; rank < ranks; ++rank) sum += of(rank, i);
    return sum;
  }
};

/// A buffer in memory of the process, in place of one that may lie on a device.
class Staged {
 public:
  explicit Staged(Buffer x) : x_(x), bytes_(x.device == Device::kCpu ? 0 : x.bytes()) {}

  Buffer buffer() { return {bytes_.empty() ? x_.data : bytes_.data(), x_.count, x_.dtype}; }
  void fetch() {
    if (x_.device != Device::kCpu) nccl::copy(buffer(), x_);
  }
  void store() {
    if (x_.device != Device::kCpu) nccl::copy(x_, buffer());
  }

 private:
  Buffer x_;
  std::vector<std::byte> bytes_;
};

}  // namespace

std::string_view name_of(Place place) {
  switch (place) {
    case Place::kAllocated:
      return "allocated";
    case Place::kHeap:
      return "heap";
    case Place::kDevice:
      return "device";
  }
  return "?";
}

Exercise::Exercise(Communicator& world, Collective collective, Shape shape, DType dtype,
                   Place place)
    : world_(world), collective_(collective), shape_(shape) {
  const bool in_place = collective != Collective::kAllToAll && collective != Collective::kSend;
  const std::int64_t largest = std::max(shape.in, shape.out);
  const auto block = [&]() -> Buffer {
    const std::size_t bytes = static_cast<std::size_t>(largest) * size_of(dtype);
    if (place != Place::kHeap) {
      const Device device = place == Place::kDevice ? Device::kCuda : Device::kCpu;
      return {memory_.emplace_back(world.allocate(bytes, device)).data(), largest, dtype, device};
    }
    void* data = heap_.emplace_back(bytes + kAlignment).data();
    std::size_t space = bytes + kAlignment;
    return {std::align(kAlignment, bytes, data, space), largest, dtype};
  };
  out_ = block();
  in_ = in_place ? out_ : block();
  const std::int64_t own = world.rank() * shape.count;
  if (collective == Collective::kAllGather) in_ = out_.slice(own, shape.count);
  if (collective == Collective::kReduceScatter) out_ = in_.slice(own, shape.count);
}

void Exercise::call() {
  switch (collective_) {
    case Collective::kAllReduce:
      return world_.all_reduce(out_).wait();
    case Collective::kAllGather:
      return world_.all_gather(out_, in_).wait();
    case Collective::kReduceScatter:
      return world_.reduce_scatter(out_, in_).wait();
    case Collective::kBroadcast:
      return world_.broadcast(out_, 0).wait();
    case Collective::kAllToAll:
      return world_.all_to_all(out_, in_).wait();
    case Collective::kSend: {
      const int ranks = world_.size();
      Work came = world_.recv(out_, (world_.rank() + ranks - 1) % ranks);
      world_.send(in_, (world_.rank() + 1) % ranks).wait();
      return came.wait();
    }
  }
}

void Exercise::fill() {
  const Numbers numbers(in_.dtype);
  const Values values(reduces(collective_), world_.size());
  clear();
  if (collective_ == Collective::kBroadcast && world_.rank() != 0) return;
  Staged in(in_);
  for (std::int64_t i = 0; i < in_.count; ++i) {
    numbers.write(in.buffer(), i, values.of(world_.rank(), i));
  }
  in.store();
}

void Exercise::clear() {
  for (const Buffer& x : {in_, out_}) {
    Staged zeros(x);
    std::memset(zeros.buffer().data, 0, x.bytes());
    zeros.store();
  }
}

std::int64_t Exercise::differences() const {
  const Numbers numbers(out_.dtype);
  const Values values(reduces(collective_), world_.size());
  const int ranks = world_.size();
  const int rank = world_.rank();
  const auto expected = [&](std::int64_t i) {
    switch (collective_) {
      case Collective::kAllReduce:
        return values.sum(ranks, i);
      case Collective::kAllGather:
        return values.of(static_cast<int>(i / shape_.count), i % shape_.count);
      case Collective::kReduceScatter:
        return values.sum(ranks, rank * shape_.count + i);
      case Collective::kBroadcast:
        return values.of(0, i);
      case Collective::kAllToAll:
        return values.of(static_cast<int>(i / shape_.count),
                         rank * shape_.count + i % shape_.count);
      case Collective::kSend:
        return values.of((rank + ranks - 1) % ranks, i);
    }
    return 0;
  };
  std::int64_t wrong = 0;
  Staged out(out_);
  out.fetch();
  const Buffer x = out.buffer();
  for (std::int64_t i = 0; i < x.count; ++i) wrong += !numbers.equal(x, i, expected(i));
  return wrong;
}

std::int64_t Exercise::count_wrong() {
  fill();
  world_.barrier();
  call();
  std::int64_t wrong = differences();
  world_.all_reduce(buffer_of(std::span(&wrong, 1))).wait();
  // Zeros stay zeros, however often they are summed: no call is slowed by overflow.
  clear();
  world_.barrier();
  return wrong;
}

}  // namespace trireme::bench
