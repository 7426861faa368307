#include "trireme/server/embedded/embedded.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/server/embedded/embedded_servers.h"
#include "trireme/server/embedded/shared_mailbox.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;

// A worker's mailbox and, on rank 0, the servers: shared by the links.
class Host {
 public:
  Host(Communicator& world, const EmbeddedOptions& options)
      : mailbox_(world, options.shards, options.payload_bytes), worker_(world.rank()) {
    if (worker_ == 0) {
      servers_ = std::make_unique<EmbeddedServers>(mailbox_);
    } else if (const pid_t first = mailbox_.header(0).process.load(); first != ::getpid()) {
      rank_0_ = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, first, 0)));
      rank_0_has_ended_ = !rank_0_.is_open() && errno == ESRCH;
    }
  }

  // The servers access this worker's memory until they have released it.
  ~Host() {
    // A worker that has left every server is released. Of rank 0, `gone` would end the servers.
    if (left_ < mailbox_.shards() && !is_released()) {
      mailbox_.header(worker_).gone.store(1);
      for (int shard = 0; shard < mailbox_.shards(); ++shard) mailbox_.requested(shard).notify();
    }
    while (!is_released() && !has_rank_0_ended()) std::this_thread::sleep_for(1ms);
  }

  SharedMailbox& mailbox() { return mailbox_; }
  int worker() const { return worker_; }
  void count_leave() { ++left_; }

  // Rank 0's worker can carry out requests itself.
  void serve_small(int shard) {
    if (servers_) servers_->serve_small(shard);
  }

  // For a worker that waits. It reads its own memory only: rank 0's may be gone with rank 0.
  bool servers_have_ended() const { return is_released() || has_rank_0_ended(); }

 private:
  bool is_released() const {
    return mailbox_.header(worker_).released.load() ==
           static_cast<std::uint32_t>(mailbox_.shards());
  }

  bool has_rank_0_ended() const {
    if (!rank_0_.is_open()) return rank_0_has_ended_;
    pollfd polled{rank_0_.fd(), POLLIN, 0};
    return ::poll(&polled, 1, 0) > 0;
  }

  SharedMailbox mailbox_;
  int worker_;
  int left_ = 0;           // servers that have replied to kLeave
  FileDescriptor rank_0_;  // a pidfd, if rank 0 is another process
  bool rank_0_has_ended_ = false;
  std::unique_ptr<EmbeddedServers> servers_;
};

class MailboxLink final : public Link {
 public:
  MailboxLink(std::shared_ptr<Host> host, int shard)
      : host_(std::move(host)), mailbox_(host_->mailbox()), shard_(shard) {}

  void send(const Message& request, std::span<const std::span<std::byte>> outputs) override {
    MailboxSlot& slot = mailbox_.slot(host_->worker(), shard_);
    copies_.clear();
    stage_used_ = 0;
    is_leaving_ = request.type == MessageType::kLeave;
    const std::string header = encode_header(request);
    std::vector<MailboxSlot::Extent> extents;
    std::size_t payloads = 0;
    for (const Part& part : request.parts) {
      if (part.payload.empty()) continue;
      extents.push_back(extent_of(part.payload));
      ++payloads;
    }
    for (const std::span<std::byte> out : outputs) extents.push_back(extent_for(out));
    const std::size_t bytes = padded(header.size()) + extents.size() * sizeof(MailboxSlot::Extent);
    if (bytes > sizeof slot.buffer) {
      throw UsageError(fmt::format(
          "parameter server: a request names {} payloads, more than fit; use more server shards",
          extents.size()));
    }
    std::memcpy(slot.buffer, header.data(), header.size());
    std::ranges::copy(std::as_bytes(std::span(extents)), slot.buffer + padded(header.size()));
    slot.header_bytes = header.size();
    slot.payloads = payloads;
    slot.outputs = outputs.size();
    slot.bytes = 0;
    for (const MailboxSlot::Extent& extent : extents) slot.bytes += extent.bytes;
    traffic_.sent += static_cast<std::int64_t>(header.size() + request.payload_bytes());
    slot.requests.store(++requests_);
    if (slot.bytes > MailboxSlot::kFewBytes) mailbox_.requested(shard_).notify();
  }

  Message receive(Deadline deadline) override {
    MailboxSlot& slot = mailbox_.slot(host_->worker(), shard_);
    FutexEvent& event = mailbox_.header(host_->worker()).replied;
    const auto has_reply = [&] {
      if (slot.replies.load() == requests_) return true;
      host_->serve_small(shard_);
      return slot.replies.load() == requests_;
    };
    // Rank 0's worker often carries out a small request before its server's thread could be awake.
    if (!event.poll(has_reply, FutexEvent::kSpins)) mailbox_.requested(shard_).notify();
    while (!event.wait_until(has_reply, 100ms)) {
      if (host_->servers_have_ended() && !has_reply()) {
        throw CommError("parameter server: lost: rank 0, which runs the servers, has ended", 0);
      }
      if (std::chrono::steady_clock::now() >= deadline) throw TimedOut{};
    }
    std::vector<MailboxSlot::Extent> extents(slot.reply_payloads);
    std::ranges::copy(std::span(slot.buffer + padded(slot.reply_bytes),
                                extents.size() * sizeof(MailboxSlot::Extent)),
                      std::as_writable_bytes(std::span(extents)).begin());
    std::vector<std::span<const std::byte>> bodies;
    for (const MailboxSlot::Extent& extent : extents) {
      if (extent.bytes == 0) continue;
      bodies.emplace_back(mailbox_.part(host_->worker()) + extent.offset, padded(extent.bytes));
    }
    Message message = decode({slot.buffer, slot.reply_bytes}, bodies);
    if (is_leaving_) host_->count_leave();
    for (const Copy& copy : copies_) {
      std::copy_n(copy.from, copy.to.size(), copy.to.data());
    }
    traffic_.received += static_cast<std::int64_t>(slot.reply_bytes + message.payload_bytes());
    return message;
  }

  std::string waiting_for() override { return ""; }
  std::byte* allocate(std::size_t bytes) override { return mailbox_.allocate(bytes); }
  Traffic traffic() const override { return traffic_; }
  std::string name() const override {
    return fmt::format("server {} of {}, in rank 0", shard_, mailbox_.shards());
  }

 private:
  struct Copy {
    std::span<std::byte> to;
    const std::byte* from;
  };

  MailboxSlot::Extent extent_at(const std::byte* data, std::size_t bytes) const {
    return {static_cast<std::uint64_t>(data - mailbox_.part(host_->worker())), padded(bytes)};
  }

  bool is_shared(std::span<const std::byte> data) const {
    return reinterpret_cast<std::uintptr_t>(data.data()) % alignof(double) == 0 &&
           mailbox_.contains(host_->worker(), data.data(), padded(data.size()));
  }

  // Shared memory for copies of payloads; the next request reuses it.
  std::byte* stage(std::size_t bytes) {
    if (stage_used_ + padded(bytes) > stage_.size()) {
      const std::size_t larger = std::max(2 * stage_.size(), padded(bytes));
      std::byte* const memory = mailbox_.allocate(larger);
      if (memory == nullptr) {
        throw UsageError(fmt::format(
            "parameter server: {} bytes at a time are more than the workers' shared memory holds; "
            "raise EmbeddedOptions::payload_bytes or push less at a time",
            bytes));
      }
      stage_ = {memory, larger};
      stage_used_ = 0;
    }
    std::byte* const at = stage_.data() + stage_used_;
    stage_used_ += padded(bytes);
    return at;
  }

  MailboxSlot::Extent extent_of(std::span<const std::byte> payload) {
    if (is_shared(payload)) return extent_at(payload.data(), payload.size());
    std::byte* const copy = stage(payload.size());
    std::memcpy(copy, payload.data(), payload.size());
    return extent_at(copy, payload.size());
  }

  MailboxSlot::Extent extent_for(std::span<std::byte> out) {
    if (is_shared(out)) return extent_at(out.data(), out.size());
    std::byte* const copy = stage(out.size());
    copies_.push_back({out, copy});
    return extent_at(copy, out.size());
  }

  std::shared_ptr<Host> host_;
  SharedMailbox& mailbox_;
  int shard_;
  std::uint64_t requests_ = 0;
  bool is_leaving_ = false;  // the last request is kLeave
  std::span<std::byte> stage_;
  std::size_t stage_used_ = 0;
  std::vector<Copy> copies_;
  Traffic traffic_;
};

}  // namespace

std::unique_ptr<Client> embedded(Communicator& world, EmbeddedOptions options) {
  if (options.shards < 1) {
    throw UsageError(
        fmt::format("parameter server: shards must be 1 or more, got {}", options.shards));
  }
  const auto host = std::make_shared<Host>(world, options);
  std::vector<std::unique_ptr<Link>> links;
  for (int shard = 0; shard < options.shards; ++shard) {
    links.push_back(std::make_unique<MailboxLink>(host, shard));
  }
  return std::make_unique<Client>(
      std::move(links), Client::Options{.worker = world.rank(), .timeout = options.timeout});
}

}  // namespace trireme::server
