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
#include "trireme/server/embedded/station.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;

// A worker's station and, on rank 0, the servers: shared by its links.
class Host {
 public:
  Host(Communicator& world, const EmbeddedOptions& options)
      : station_(world, options.shards, options.payload_bytes), worker_(world.rank()) {
    if (worker_ == 0) {
      servers_ = std::make_unique<EmbeddedServers>(station_);
    } else if (const pid_t first = station_.front(0).process.load(); first != ::getpid()) {
      first_ = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, first, 0)));
      first_came_and_went_ = !first_.is_open() && errno == ESRCH;
    }
  }

  // The servers look into this worker's memory until they have released it.
  ~Host() {
    // After it has left they release it by themselves; were rank 0 gone, that would be their end.
    if (left_ < station_.shards() && !is_released()) {
      station_.front(worker_).gone.store(1);
      for (int shard = 0; shard < station_.shards(); ++shard) station_.asked(shard).ring();
    }
    while (!is_released() && !first_has_ended()) std::this_thread::sleep_for(1ms);
  }

  Station& station() { return station_; }
  int worker() const { return worker_; }
  void note_left() { ++left_; }

  // While this worker waits. Rank 0's memory may be gone with it, so that it is of no use to look
  // there.
  bool servers_are_gone() const { return is_released() || first_has_ended(); }

 private:
  bool is_released() const {
    return station_.front(worker_).released.load() == static_cast<std::uint32_t>(station_.shards());
  }

  bool first_has_ended() const {
    if (!first_.is_open()) return first_came_and_went_;
    pollfd polled{first_.fd(), POLLIN, 0};
    return ::poll(&polled, 1, 0) > 0;
  }

  Station station_;
  int worker_;
  int left_ = 0;          // servers that have answered that this worker leaves
  FileDescriptor first_;  // the process of rank 0
  bool first_came_and_went_ = false;
  std::unique_ptr<EmbeddedServers> servers_;
};

class DeskLink final : public Link {
 public:
  DeskLink(std::shared_ptr<Host> host, int shard)
      : host_(std::move(host)), station_(host_->station()), shard_(shard) {}

  void send(const Message& request, std::span<const std::span<std::byte>> wanted) override {
    Desk& desk = station_.desk(host_->worker(), shard_);
    copies_.clear();
    out_.assign(wanted.begin(), wanted.end());
    stage_used_ = 0;
    leaves_ = request.verb == Verb::kLeave;
    const std::string head = encode_head(request);
    std::vector<Desk::Place> places;
    std::size_t payloads = 0;
    for (const Part& part : request.parts) {
      if (part.payload.empty()) continue;
      places.push_back(place_of(part.payload));
      ++payloads;
    }
    for (const std::span<std::byte> out : wanted) places.push_back(place_for(out));
    const std::size_t bytes = padded(head.size()) + places.size() * sizeof(Desk::Place);
    if (bytes > sizeof desk.paper) {
      throw UsageError(fmt::format(
          "parameter server: a request names {} pieces, more than fit; use more server shards",
          places.size()));
    }
    std::memcpy(desk.paper, head.data(), head.size());
    std::ranges::copy(std::as_bytes(std::span(places)), desk.paper + padded(head.size()));
    desk.head_bytes = head.size();
    desk.payloads = payloads;
    desk.wanted = wanted.size();
    traffic_.sent += static_cast<std::int64_t>(head.size() + request.payload_bytes());
    desk.asked.store(++asked_);
    station_.asked(shard_).ring();
  }

  Message answer(Deadline deadline) override {
    Desk& desk = station_.desk(host_->worker(), shard_);
    Bell& bell = station_.front(host_->worker()).answered;
    const auto is_answered = [&] { return desk.answered.load() == asked_; };
    while (!bell.wait_until(is_answered, 100ms)) {
      if (host_->servers_are_gone() && !is_answered()) {
        throw CommError("parameter server: lost: rank 0, which runs the servers, has ended", 0);
      }
      if (std::chrono::steady_clock::now() >= deadline) throw TimedOut{};
    }
    std::vector<Desk::Place> places(desk.answers);
    std::ranges::copy(
        std::span(desk.paper + padded(desk.answer_bytes), places.size() * sizeof(Desk::Place)),
        std::as_writable_bytes(std::span(places)).begin());
    std::vector<std::span<const std::byte>> bodies;
    for (const Desk::Place& place : places) {
      if (place.bytes == 0) continue;
      bodies.emplace_back(station_.part(host_->worker()) + place.offset, padded(place.bytes));
    }
    Message message = decode({desk.paper, desk.answer_bytes}, bodies);
    if (leaves_) host_->note_left();
    for (const Copy& copy : copies_) {
      std::copy_n(copy.from, copy.to.size(), copy.to.data());
    }
    traffic_.received += static_cast<std::int64_t>(desk.answer_bytes + message.payload_bytes());
    return message;
  }

  std::string ask_what_is_awaited() override { return ""; }
  std::byte* allocate(std::size_t bytes) override { return station_.allocate(bytes); }
  Traffic traffic() const override { return traffic_; }
  std::string name() const override {
    return fmt::format("server {} of {}, in rank 0", shard_, station_.shards());
  }

 private:
  struct Copy {
    std::span<std::byte> to;
    const std::byte* from;
  };

  Desk::Place place_at(const std::byte* data, std::size_t bytes) const {
    return {static_cast<std::uint64_t>(data - station_.part(host_->worker())), padded(bytes)};
  }

  bool is_shared(std::span<const std::byte> data) const {
    return reinterpret_cast<std::uintptr_t>(data.data()) % alignof(double) == 0 &&
           station_.holds(host_->worker(), data.data(), padded(data.size()));
  }

  // Memory for copies, kept for the next request.
  std::byte* stage(std::size_t bytes) {
    if (stage_used_ + padded(bytes) > stage_.size()) {
      const std::size_t larger = std::max(2 * stage_.size(), padded(bytes));
      std::byte* const memory = station_.allocate(larger);
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

  Desk::Place place_of(std::span<const std::byte> payload) {
    if (is_shared(payload)) return place_at(payload.data(), payload.size());
    std::byte* const copy = stage(payload.size());
    std::memcpy(copy, payload.data(), payload.size());
    return place_at(copy, payload.size());
  }

  Desk::Place place_for(std::span<std::byte> out) {
    if (is_shared(out)) return place_at(out.data(), out.size());
    std::byte* const copy = stage(out.size());
    copies_.push_back({out, copy});
    return place_at(copy, out.size());
  }

  std::shared_ptr<Host> host_;
  Station& station_;
  int shard_;
  std::uint64_t asked_ = 0;
  bool leaves_ = false;  // with what it asks
  std::span<std::byte> stage_;
  std::size_t stage_used_ = 0;
  std::vector<Copy> copies_;
  std::vector<std::span<std::byte>> out_;
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
    links.push_back(std::make_unique<DeskLink>(host, shard));
  }
  return std::make_unique<Client>(
      std::move(links), Client::Options{.worker = world.rank(), .timeout = options.timeout});
}

}  // namespace trireme::server
