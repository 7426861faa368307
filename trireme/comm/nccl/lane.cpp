#include "trireme/comm/nccl/lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/backoff.h"
#include "trireme/comm/nccl/handshake.h"
#include "trireme/comm/nccl/moves.h"
#include "trireme/comm/semantics.h"

namespace trireme::nccl {

namespace {

using Clock = std::chrono::steady_clock;

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

class Lane::MessageWork final : public Work::State {
 public:
  MessageWork(Lane& lane, std::shared_ptr<Transfer> transfer)
      : lane_(lane), transfer_(std::move(transfer)) {}

  bool test() override {
    if (!transfer_->is_done) lane_.advance();
    rethrow();
    return transfer_->is_done;
  }
  void wait() override {
    lane_.wait_for(*transfer_, [this] { return transfer_->is_done; });
    rethrow();
  }
  void wait(StreamRef stream) override {
    lane_.wait_for(*transfer_, [this] { return transfer_->is_done || transfer_->is_queued; });
    rethrow();
    if (transfer_->is_done) return;
    const cuda::OnDevice on_device(lane_.device_);
    transfer_->done.make_wait(static_cast<cudaStream_t>(stream.handle));
  }

 private:
  void rethrow() const {
    if (transfer_->error) std::rethrow_exception(transfer_->error);
  }

  Lane& lane_;
  std::shared_ptr<Transfer> transfer_;
};

/// A call on the memory of the process.
class Lane::WatchedWork final : public Work::State {
 public:
  WatchedWork(Lane& lane, const Operation& operation, Work work)
      : lane_(lane), from_(operation.root), sender_(operation.sender), work_(std::move(work)) {}

  bool test() override {
    lane_.advance();
    return answering([this] { return work_.test(); });
  }
  void wait() override {
    answering([this] { return lane_.wait_beside(work_), true; });
  }

 private:
  // A send from a device that does not fit is to hear of it.
  template <class Body>
  bool answering(Body body) {
    try {
      return body();
    } catch (const UsageError&) {
      if (sender_ && sender_->is_matched && sender_->device != DeviceKind::kCpu) {
        lane_.refuse(from_, sender_->number);
      }
      throw;
    }
  }

  Lane& lane_;
  int from_;
  std::shared_ptr<MatchedSend> sender_;
  Work work_;
};

Lane::Lane(Communicator& communicator, Options options)
    : communicator_(communicator),
      options_(std::move(options)),
      watch_([this] { communicator_.check(); }),
      messages_(
          communicator.rank(), communicator.size(),
          [this](const Operation& note) { return start_in(communicator_, note); },
          options_.timeout) {}

Lane::~Lane() {
  if (error_) return;
  // What streams wait for may still be on its way, though nobody waits for it here.
  const bool is_idle =
      (pending_.empty() || pending_.back().is_queued) && messages_.is_settled() && drain();
  close(is_idle);
}

void Lane::close(bool is_idle) {
  if (link_) link_->close(is_idle);
  messages_.close(is_idle);
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
  const Semantics& semantics = semantics_of(operation.kind);
  // One that is ignored elsewhere may point anywhere.
  if (!semantics.out_pieces || gets(operation, communicator_.rank()))
    check(operation, "out", operation.out);
  if (!semantics.in_pieces || gives(operation, communicator_.rank()))
    check(operation, "in", operation.in);
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
  traffic_ += data_of(operation, communicator_.size(), communicator_.rank());
  return semantics_of(operation.kind).is_message ? start_message(operation, std::move(matched))
                                                 : start_collective(operation, std::move(matched));
}

Work Lane::start_collective(const Operation& operation, Work matched) {
  try {
    Pending pending{.operation = operation, .matched = std::move(matched)};
    pending.ready.record(stream_of_caller());
    if (!link_) {
      // Ranks that call something else must hear of this call, not of how they meet.
      wait_beside(pending.matched);
      connect();
    }
    pending_.push_back(std::move(pending));
  } catch (const Error&) {
    end();
  }
  ++started_;
  advance();
  return Work(std::make_unique<CollectiveWork>(*this, started_));
}

Work Lane::start_message(const Operation& operation, Work matched) {
  std::shared_ptr<Transfer> transfer;
  try {
    transfer = messages_.start(operation, std::move(matched), device_);
    transfer->ready.record(stream_of_caller());
  } catch (const Error&) {
    end();
  }
  advance();
  return Work(std::make_unique<MessageWork>(*this, std::move(transfer)));
}

Work Lane::watch(const Operation& operation, Work work) {
  if (!operation.sender && is_settled()) return work;
  return Work(std::make_unique<WatchedWork>(*this, operation, std::move(work)));
}

void Lane::refuse(int sender, std::uint64_t number) {
  try {
    messages_.refuse(sender, number);
  } catch (const Error&) {
    end();
  }
}

// Waits for `work` of the communicator, which may need what this lane has under way to end first.
void Lane::wait_beside(Work& work) {
  const Backoff backoff;
  const auto late = Clock::now() + options_.timeout;
  while (!is_settled() && Clock::now() < late) {
    if (work.test()) return;
    advance();
    backoff.pause();
  }
  work.wait();
}

// Is there nothing that only advance() can move on?
bool Lane::is_settled() const {
  return (pending_.empty() || pending_.back().is_queued) && messages_.is_settled();
}

// Collective: the ranks meet in NCCL.
void Lane::connect() {
  const int rank = communicator_.rank();
  Handshake mine = handshake_of(rank, device_, rank == 0);
  std::vector<Handshake> handshakes(static_cast<std::size_t>(communicator_.size()));
  const auto bytes_of = [](std::span<Handshake> handshakes) {
    return Buffer{handshakes.data(), static_cast<std::int64_t>(handshakes.size_bytes()),
                  DType::kU8};
  };
  communicator_.all_gather(bytes_of(handshakes), bytes_of({&mine, 1})).wait();
  check_handshakes(handshakes);
  stream_.emplace();
  link_.emplace(handshakes[0].id, rank, communicator_.size());
  const Backoff backoff;
  const auto late = Clock::now() + options_.timeout;
  while (!link_->is_settled()) {
    watch_();
    messages_.advance();
    if (Clock::now() >= late) link_->settle(watch_, late);
    backoff.pause();
  }
}

// Queues what all ranks have called, and notes what the device has done.
void Lane::advance() {
  throw_if_over();
  if (pending_.empty() && messages_.is_idle()) return;
  std::optional<cuda::OnDevice> on_device;
  if (device_ >= 0) on_device.emplace(device_);
  try {
    for (Pending& pending : pending_) {
      if (pending.is_queued) continue;
      if (!pending.matched.test()) break;
      queue(pending);
    }
    messages_.advance();
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
  const auto late = Clock::now() + options_.timeout;
  while (finished_ < number) {
    advance();
    if (finished_ >= number) return;
    Pending& next = pending_.front();
    try {
      if (!next.is_queued) {
        if (messages_.is_settled() || Clock::now() >= late) next.matched.wait();
        backoff.pause();
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
  const Backoff backoff;
  const auto late = Clock::now() + options_.timeout;
  advance();
  while (finished_ < number) {
    Pending& wanted = pending_[static_cast<std::size_t>(number - finished_ - 1)];
    const cuda::OnDevice on_device(device_);
    try {
      if (wanted.is_queued) return wanted.done.make_wait(stream);
      // Operations are queued in order.
      const auto next = std::find_if(pending_.begin(), pending_.end(),
                                     [](const Pending& pending) { return !pending.is_queued; });
      if (messages_.is_settled() || Clock::now() >= late) next->matched.wait();
    } catch (const Error&) {
      end();
    }
    backoff.pause();
    advance();
  }
}

template <class Done>
void Lane::wait_for(const Transfer& transfer, Done done) {
  const Backoff backoff;
  const auto late = Clock::now() + options_.timeout;
  const Deadline never = Deadline::max();
  for (;;) {
    if (!done()) advance();
    if (done()) return;
    messages_.require_hope(transfer);
    try {
      watch_();
      const bool is_agreed = transfer.deadline != never;
      if (Clock::now() >= (is_agreed ? transfer.deadline : late)) throw_late(transfer, is_agreed);
    } catch (const Error&) {
      end();
    }
    backoff.pause();
  }
}

void Lane::throw_late(const Transfer& transfer, bool is_agreed) const {
  const Operation& operation = transfer.operation;
  throw CommError(fmt::format("nccl: {} {} {:g} s{} (rank {} of {})",
                              describe(operation, CallSite(operation.where)),
                              is_agreed ? "has not ended" : "has waited for its other end for",
                              std::chrono::duration<double>(options_.timeout).count(),
                              is_agreed ? " after both ranks had called it" : "",
                              communicator_.rank(), communicator_.size()));
}

void Lane::throw_if_over() const {
  if (error_) std::rethrow_exception(error_);
}

// This lane is over for the error that is being handled, and its communicator with it.
void Lane::end() {
  error_ = std::current_exception();
  communicator_.abort(error_);
  close(false);
  drain();
  pending_.clear();
  messages_.clear();
  std::rethrow_exception(error_);
}

// What is queued still uses the buffers of its callers; NCCL's part of it ends by itself once the
// link is closed. A stream that waits for work of the caller's that never ends is left to itself.
bool Lane::drain() {
  if (device_ < 0) return true;
  try {
    const cuda::OnDevice on_device(device_);
    std::vector<cudaStream_t> streams = messages_.streams();
    if (stream_) streams.push_back(stream_->get());
    std::vector<cuda::Event> ends(streams.size());
    for (std::size_t i = 0; i < streams.size(); ++i) ends[i].record(streams[i]);
    const Backoff backoff;
    const auto late = Clock::now() + kShutdownTimeout;
    while (!std::ranges::all_of(ends, [](const cuda::Event& end) { return end.is_done(); })) {
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
