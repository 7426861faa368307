#include "trireme/comm/nccl/lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/backoff.h"
#include "trireme/comm/hierarchical/hierarchical.h"
#include "trireme/comm/nccl/moves.h"

namespace trireme::nccl {

namespace {

using Clock = std::chrono::steady_clock;

/// What ranks tell each other before they connect through NCCL.
struct Handshake {
  ncclUniqueId id{};  // rank 0's
  std::uint64_t host = 0;
  char device[32] = {};    // its address on the bus of the host
  char failure[160] = {};  // why this rank cannot go on
};

template <std::size_t kRoom>
void write(char (&to)[kRoom], std::string_view text) {
  std::memcpy(to, text.data(), std::min(text.size(), kRoom - 1));
}

Handshake handshake_of(int rank, int device) {
  Handshake handshake;
  handshake.host = host_of_this_process();
  try {
    cuda::check(cudaDeviceGetPCIBusId(handshake.device, sizeof(handshake.device), device),
                "cudaDeviceGetPCIBusId");
    if (rank == 0) Link::check(ncclGetUniqueId(&handshake.id), "ncclGetUniqueId");
  } catch (const Error& error) {
    write(handshake.failure, error.what());
  }
  return handshake;
}

// The same verdict on every rank.
void check_handshakes(const std::vector<Handshake>& handshakes) {
  for (std::size_t rank = 0; rank < handshakes.size(); ++rank) {
    if (handshakes[rank].failure[0] == '\0') continue;
    throw CommError(fmt::format("nccl: rank {} cannot begin: {}", rank, handshakes[rank].failure),
                    static_cast<int>(rank));
  }
  for (std::size_t rank = 0; rank < handshakes.size(); ++rank) {
    for (std::size_t other = 0; other < rank; ++other) {
      if (handshakes[rank].host != handshakes[other].host ||
          std::strcmp(handshakes[rank].device, handshakes[other].device) != 0) {
        continue;
      }
      throw UsageError(fmt::format(
          "nccl: each rank must have a CUDA device of its own, ranks {} and {} both have {}; start "
          "as many ranks on a host as it has devices, and let each use the one of its local rank",
          other, rank, handshakes[rank].device));
    }
  }
}

class DeviceBlock final : public Memory::Block {
 public:
  DeviceBlock(std::size_t bytes, int rank) : memory_(bytes), rank_(rank) {}

  void* data() const override { return memory_.data(); }
  std::size_t bytes() const override { return memory_.bytes(); }
  void* peer(int rank) const override { return rank == rank_ ? data() : nullptr; }

 private:
  cuda::DeviceMemory memory_;
  int rank_;
};

void copy_in_order(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
  cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

/// A send whose data lie in the memory of the process until it is done.
class SendWork final : public Work::State {
 public:
  SendWork(std::vector<char> bytes, Work work) : bytes_(std::move(bytes)), work_(std::move(work)) {}

  bool test() override { return work_.test(); }
  void wait() override { work_.wait(); }

 private:
  std::vector<char> bytes_;
  Work work_;  // last: it uses the bytes
};

}  // namespace

class Lane::CollectiveWork final : public Work::State {
 public:
  CollectiveWork(Lane& lane, std::uint64_t number) : lane_(lane), number_(number) {}

  bool test() override {
    if (lane_.finished_ < number_) lane_.advance();
    return lane_.finished_ >= number_;
  }
  void wait() override { lane_.wait_for(number_); }
  void wait(StreamRef stream) override {
    lane_.wait_for(number_, static_cast<cudaStream_t>(stream.handle));
  }

 private:
  Lane& lane_;
  std::uint64_t number_;
};

/// A recv by way of the memory of the process.
class Lane::ReceiptWork final : public Work::State {
 public:
  ReceiptWork(Lane& lane, const Operation& operation)
      : lane_(lane), out_(operation.out), bytes_(out_.bytes()) {
    work_ = lane.communicator_.recv({bytes_.data(), out_.count, out_.dtype}, operation.root,
                                    operation.tag, operation.where);
  }

  bool test() override {
    if (!work_.test()) return false;
    deliver();
    return true;
  }
  void wait() override {
    work_.wait();
    deliver();
  }

 private:
  void deliver() {
    if (bytes_.empty()) return;
    const cuda::OnDevice on_device(lane_.device_);
    copy_in_order(out_.data, bytes_.data(), bytes_.size(), lane_.stream_of_caller());
  }

  Lane& lane_;
  Buffer out_;
  std::vector<char> bytes_;
  Work work_;
};

Lane::Lane(Communicator& communicator, Options options)
    : communicator_(communicator),
      options_(std::move(options)),
      watch_([this] { communicator_.check(); }) {}

Lane::~Lane() {
  if (!link_) return;
  // What streams wait for may still be on its way, though nobody waits for it here.
  const bool is_idle = pending_.empty() || (!error_ && pending_.back().is_queued && drain());
  link_->close(is_idle);
}

std::unique_ptr<DeviceLane> Lane::lane_of(Communicator& part) const {
  return std::make_unique<Lane>(part, options_);
}

Memory Lane::allocate(std::size_t bytes) {
  return Memory(std::make_unique<DeviceBlock>(bytes, communicator_.rank()));
}

cudaStream_t Lane::stream_of_caller() const {
  return options_.stream ? static_cast<cudaStream_t>(options_.stream(device_)) : nullptr;
}

void Lane::check(const Operation& operation) {
  throw_if_over();
  const bool is_root = communicator_.rank() == operation.root;
  if (operation.kind != OpKind::kGather || is_root) check(operation, "out", operation.out);
  if (operation.kind != OpKind::kScatter || is_root) check(operation, "in", operation.in);
  if (device_ < 0) cuda::check(cudaGetDevice(&device_), "cudaGetDevice");
}

void Lane::check(const Operation& operation, const char* what, const Buffer& x) {
  if (x.count == 0) return;
  const int device = cuda::device_of(x.data);
  if (device < 0) {
    throw UsageError(
        fmt::format("{}: {} must point to memory of a CUDA device, as its Buffer says, and does "
                    "not (rank {} of {})",
                    name_of(operation.kind), what, communicator_.rank(), communicator_.size()));
  }
  if (device_ < 0) device_ = device;
  if (device != device_) {
    throw UsageError(fmt::format(
        "{}: {} must lie on CUDA device {}, as all of this rank's, got device {} (rank {} of {})",
        name_of(operation.kind), what, device_, device, communicator_.rank(),
        communicator_.size()));
  }
}

Work Lane::start(const Operation& operation, Work matched) {
  const cuda::OnDevice on_device(device_);
  try {
    Pending pending{.operation = operation, .matched = std::move(matched)};
    pending.ready.record(stream_of_caller());
    if (!link_) {
      // Ranks that call something else must hear of this call, not of how they meet.
      pending.matched.wait();
      connect();
    }
    pending_.push_back(std::move(pending));
  } catch (const Error&) {
    end();
  }
  traffic_ += data_of(operation, communicator_.size(), communicator_.rank());
  ++started_;
  advance();
  return Work(std::make_unique<CollectiveWork>(*this, started_));
}

// Collective: the ranks meet in NCCL.
void Lane::connect() {
  Handshake mine = handshake_of(communicator_.rank(), device_);
  std::vector<Handshake> handshakes(static_cast<std::size_t>(communicator_.size()));
  const auto bytes_of = [](std::span<Handshake> handshakes) {
    return Buffer{handshakes.data(), static_cast<std::int64_t>(handshakes.size_bytes()),
                  DType::kU8};
  };
  communicator_.all_gather(bytes_of(handshakes), bytes_of({&mine, 1})).wait();
  check_handshakes(handshakes);
  stream_.emplace();
  link_.emplace(handshakes[0].id, communicator_.rank(), communicator_.size(), watch_,
                Clock::now() + options_.timeout);
}

Work Lane::start_message(const Operation& operation) {
  if (operation.kind == OpKind::kRecv) {
    return Work(std::make_unique<ReceiptWork>(*this, operation));
  }
  const cuda::OnDevice on_device(device_);
  std::vector<char> bytes(operation.in.bytes());
  if (!bytes.empty()) {
    copy_in_order(bytes.data(), operation.in.data, bytes.size(), stream_of_caller());
  }
  Work work = communicator_.send({bytes.data(), operation.count, operation.dtype}, operation.root,
                                 operation.tag, operation.where);
  return Work(std::make_unique<SendWork>(std::move(bytes), std::move(work)));
}

// Queues what all ranks have called, and notes what the device has done.
void Lane::advance() {
  throw_if_over();
  if (pending_.empty()) return;
  const cuda::OnDevice on_device(device_);
  try {
    for (Pending& pending : pending_) {
      if (pending.is_queued) continue;
      if (!pending.matched.test()) break;
      queue(pending);
    }
    // First: after a failure the stream goes on as if all were well.
    if (link_) link_->check_progress();
    while (!pending_.empty() && pending_.front().is_queued && pending_.front().done.is_done()) {
      pending_.pop_front();
      ++finished_;
    }
  } catch (const Error&) {
    end();
  }
}

void Lane::queue(Pending& pending) {
  pending.deadline = Clock::now() + options_.timeout;
  pending.ready.make_wait(stream_->get());
  Moves(*link_, stream_->get(), communicator_.rank(), communicator_.size(), watch_,
        pending.deadline)
      .carry_out(pending.operation, options_.reproducible);
  pending.done.record(stream_->get());
  pending.is_queued = true;
}

void Lane::wait_for(std::uint64_t number) {
  const Backoff backoff;
  while (finished_ < number) {
    advance();
    if (finished_ >= number) return;
    Pending& next = pending_.front();
    try {
      if (!next.is_queued) {
        next.matched.wait();
        continue;
      }
      watch_();
      if (Clock::now() >= next.deadline) {
        throw CommError(fmt::format(
            "nccl: {} has not ended {:g} s after every rank had called it (rank {} of {})",
            describe(next.operation, CallSite(next.operation.where)),
            std::chrono::duration<double>(options_.timeout).count(), communicator_.rank(),
            communicator_.size()));
      }
    } catch (const Error&) {
      end();
    }
    backoff.pause();
  }
}

// Returns once operation `number` is queued.
void Lane::wait_for(std::uint64_t number, cudaStream_t stream) {
  advance();
  while (finished_ < number) {
    Pending& wanted = pending_[static_cast<std::size_t>(number - finished_ - 1)];
    const cuda::OnDevice on_device(device_);
    try {
      if (wanted.is_queued) return wanted.done.make_wait(stream);
      // Operations are queued in order.
      const auto next = std::find_if(pending_.begin(), pending_.end(),
                                     [](const Pending& pending) { return !pending.is_queued; });
      next->matched.wait();
    } catch (const Error&) {
      end();
    }
    advance();
  }
}

void Lane::throw_if_over() const {
  if (error_) std::rethrow_exception(error_);
}

// This lane is over for the error that is being handled, and its communicator with it.
void Lane::end() {
  error_ = std::current_exception();
  communicator_.abort(error_);
  if (link_) link_->close(false);
  drain();
  pending_.clear();
  std::rethrow_exception(error_);
}

// What is queued still uses the buffers of its callers; NCCL's part of it ends by itself once the
// link is closed. A stream that waits for work of the caller's that never ends is left to itself.
bool Lane::drain() {
  if (!stream_) return true;
  try {
    const cuda::OnDevice on_device(device_);
    cuda::Event end;
    end.record(stream_->get());
    const Backoff backoff;
    const auto late = Clock::now() + kShutdownTimeout;
    while (!end.is_done()) {
      if (Clock::now() >= late) return false;
      backoff.pause();
    }
    return true;
  } catch (const Error&) {
    // The device does nothing any more.
    return false;
  }
}

}  // namespace trireme::nccl
