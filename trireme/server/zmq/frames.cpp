#include "trireme/server/zmq/frames.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace trireme::server {

namespace {

constexpr std::size_t kFirstCapacity = 1 << 10;

// `hint`: keeps what the reply counts until the last of its frames is gone; or null.
void free_memory(void* data, void* hint) {
  ::operator delete(data);
  delete static_cast<std::shared_ptr<UnsentReply>*>(hint);
}

void release(void*, void* hint) {
  auto* const in_flight = static_cast<std::shared_ptr<std::atomic<int>>*>(hint);
  in_flight->get()->fetch_sub(1);
  delete in_flight;
}

std::byte* reserve(std::size_t bytes) {
  return static_cast<std::byte*>(::operator new(bytes));
}

}  // namespace

Payloads::~Payloads() {
  ::operator delete(open_);
}

void Payloads::close() {
  if (open_ == nullptr) return;
  frames_.emplace_back(std::exchange(open_, nullptr), used_, free_memory,
                       reply_ ? new std::shared_ptr<UnsentReply>(reply_) : nullptr);
  capacity_ = used_ = 0;
}

std::span<std::byte> Payloads::add(std::size_t bytes) {
  if (bytes == 0) return {};
  const std::size_t taken = padded(bytes);
  if (taken > capacity_ - used_) {
    close();
    next_capacity_ = std::clamp(2 * next_capacity_, kFirstCapacity, kLarge);
    capacity_ = std::max(taken, next_capacity_);
    open_ = reserve(capacity_);
    if (reply_) reply_->add(capacity_);
  }
  std::byte* const at = open_ + used_;
  used_ += taken;
  bytes_ += taken;
  // The padding is sent: it must not leak memory of this process.
  std::memset(at + bytes, 0, taken - bytes);
  return {at, bytes};
}

void Payloads::add_in_place(std::span<const std::byte> payload,
                            const std::shared_ptr<std::atomic<int>>& in_flight) {
  close();
  bytes_ += payload.size();
  in_flight->fetch_add(1);
  frames_.emplace_back(const_cast<std::byte*>(payload.data()), payload.size(), release,
                       new std::shared_ptr<std::atomic<int>>(in_flight));
}

std::vector<zmq::message_t> Payloads::take() {
  close();
  bytes_ = 0;
  next_capacity_ = 0;
  reply_.reset();
  return std::exchange(frames_, {});
}

ReceivedMessage::ReceivedMessage(std::vector<zmq::message_t> frames) : frames_(std::move(frames)) {
  for (std::size_t i = 1; i < frames_.size(); ++i) {
    const auto* data = frames_[i].data<std::byte>();
    const std::size_t bytes = frames_[i].size();
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(std::uint64_t) != 0) {
      auto& copy = copies_.emplace_back(std::make_unique<std::uint64_t[]>((bytes + 7) / 8));
      std::memcpy(copy.get(), data, bytes);
      data = reinterpret_cast<const std::byte*>(copy.get());
    }
    bodies_.emplace_back(data, bytes);
  }
}

std::span<const std::byte> ReceivedMessage::header() const {
  if (frames_.empty()) return {};
  return {frames_.front().data<std::byte>(), frames_.front().size()};
}

std::size_t ReceivedMessage::bytes() const {
  std::size_t bytes = 0;
  for (const zmq::message_t& frame : frames_) bytes += frame.size();
  return bytes;
}

}  // namespace trireme::server
