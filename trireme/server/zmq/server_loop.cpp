#include "trireme/server/zmq/server_loop.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kTick = 50ms;
constexpr int kMessagesAtATime = 64;  // before something else gets its turn

Server::Time now() {
  return Clock::now().time_since_epoch();
}

// The memory of a request, counted as long as it is held.
struct HeldRequest {
  HeldRequest(std::vector<zmq::message_t> frames, std::atomic<std::size_t>& count)
      : received(std::move(frames)), bytes(received.bytes()), all(count) {
    all += bytes;
  }
  ~HeldRequest() { all -= bytes; }
  HeldRequest(const HeldRequest&) = delete;
  HeldRequest& operator=(const HeldRequest&) = delete;

  ReceivedMessage received;
  std::size_t bytes;
  std::atomic<std::size_t>& all;
};

Server::Options server_options(const ZmqServer::Options& options) {
  return {.shard = options.shard,
          .shards = options.shards,
          .checkpoints = options.checkpoints,
          .restore = options.restore,
          .max_reply_bytes = options.max_message_bytes,
          .max_model_bytes = options.max_model_bytes,
          .max_held_bytes = options.max_held_bytes};
}

}  // namespace

ZmqServer::Loop::Loop(Options options)
    : options_(std::move(options)),
      server_(server_options(options_)),
      unsent_(options_.max_held_bytes),
      rejections_(options_.log),
      socket_(context_, options_, rejections_),
      workers_(options_, socket_),
      version_(server_.version()) {
  if (options_.standby) standby_.emplace(options_, server_, workers_, socket_);
  if (!options_.replica.empty()) {
    replication_.emplace(context_, options_, socket_.keys(), server_);
  }
  thread_ = start_thread("parameter server", [this] { run(); });
}

ZmqServer::Loop::~Loop() {
  stop();
}

void ZmqServer::Loop::stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

bool ZmqServer::Loop::wait_until_over(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] { return is_over_ || error_; });
  if (error_) std::rethrow_exception(error_);
  return is_over_;
}

ZmqServer::Counts ZmqServer::Loop::counts() const {
  return {requests_,   rejections_.count(), socket_.connections(),
          held_bytes_, unsent_.bytes(),     version_};
}

std::string ZmqServer::Loop::save() {
  reply_to_save_.emplace();
  server_.handle({.message = {.type = MessageType::kSave, .worker = kObserver}}, now(), *this);
  const Message reply = *std::exchange(reply_to_save_, std::nullopt);
  if (reply.type == MessageType::kReply) return reply.file;
  if (reply.error == ErrorCode::kData) throw DataError(reply.reason);
  throw UsageError(reply.reason);
}

void ZmqServer::Loop::run() {
  try {
    auto next_check = Clock::now();
    while (!stop_) {
      wait();
      if (replication_) {
        replication_->poll(
            [this](std::uint64_t to, const Message& reply, std::vector<zmq::message_t> bodies) {
              send(to, reply, std::move(bodies));
            });
      }
      const auto handle_one = [this](ServerSocket::Incoming incoming) {
        handle(std::move(incoming));
      };
      for (int i = 0; i < kMessagesAtATime && socket_.receive_one(handle_one); ++i) {
      }
      socket_.poll_connections();
      if (Clock::now() < next_check) continue;
      next_check = Clock::now() + kTick;
      check_time();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

void ZmqServer::Loop::wait() {
  std::vector<zmq::pollitem_t> items;
  socket_.add_poll_items(items);
  if (replication_) replication_->add_poll_items(items);
  zmq::poll(items.data(), items.size(), kTick);
}

void ZmqServer::Loop::check_time() {
  if (!is_standby()) {
    workers_.find_lost(
        [this](std::uint32_t worker, const std::string& why) { server_.lose(worker, why, *this); });
    server_.time_passed(now(), *this);
  }
  rejections_.time_passed();
  unsent_.forget_idle();
  const std::lock_guard lock(mutex_);
  is_over_ = server_.is_over();
  if (is_over_) changed_.notify_all();
}

void ZmqServer::Loop::handle(ServerSocket::Incoming incoming) {
  const auto held = std::make_shared<HeldRequest>(std::move(incoming.frames), held_bytes_);
  std::optional<Message> message = decoded(incoming.from, held->received);
  if (!message) return;
  ++requests_;
  Request request{.message = std::move(*message), .from = incoming.from};
  const bool is_log_entry = is_standby() && standby_->is_primary(request.from);
  if (held_bytes_ > options_.max_held_bytes && !is_log_entry) {
    return reject(
        request, ErrorCode::kUsage,
        fmt::format("server {} of {}: holds {} bytes of requests that wait, more than its "
                    "limit; use more shards or fewer workers",
                    options_.shard, options_.shards, held_bytes_.load()));
  }
  request.memory = held;
  handle(std::move(request), incoming.client_name);
}

void ZmqServer::Loop::handle(Request request, const std::string& client_name) {
  // The log of a primary has requests of all workers.
  const bool is_of_primary = request.message.type == MessageType::kReplicate ||
                             (standby_ && standby_->is_primary(request.from));
  if (!is_of_primary) {
    if (const std::string why = workers_.refusal(request, client_name); !why.empty()) {
      rejections_.add(why);
      return reject(request, ErrorCode::kUsage, why);
    }
    const std::string why = unsent_.refusal(request.from);
    if (!why.empty() && request.message.type != MessageType::kPing) {
      return reject(request, ErrorCode::kUsage,
                    fmt::format("server {} of {}: {}", options_.shard, options_.shards, why));
    }
  }
  end_if_superseded(request.message);
  if (is_standby()) {
    const std::uint64_t from = request.from;
    if (const auto reply = standby_->reply(request, *this)) {
      version_ = server_.version();
      socket_.send(from, encode_header(*reply));
      return;
    }
  }
  const bool is_from_primary = standby_ && standby_->is_primary(request.from);
  if (!is_standby() && (request.message.type == MessageType::kReplicate || is_from_primary)) {
    return reject(request, ErrorCode::kComm,
                  standby_ ? "it has taken over" : "it is not a standby; start it with --standby");
  }
  workers_.note_request(request, client_name);
  server_.handle(std::move(request), now(), *this);
  version_ = server_.version();
}

std::optional<Message> ZmqServer::Loop::decoded(std::uint64_t from,
                                                const ReceivedMessage& received) {
  try {
    return decode(received.header(), received.bodies());
  } catch (const DataError& error) {
    rejections_.add(error.what());
    if (is_of_another_protocol(received.header())) {
      socket_.send(from, encode_header(error_reply({}, ErrorCode::kData, error.what())));
    }
    return std::nullopt;
  }
}

// Workers pass on that the other server of the pair is degraded: this one is not up to date.
void ZmqServer::Loop::end_if_superseded(const Message& message) const {
  if (message.type != MessageType::kSuperseded || (!replication_ && !standby_)) return;
  if (!workers_.has(message.worker, message.incarnation)) return;
  throw CommError(fmt::format(
      "server {} of {}: {}, says worker {}; this one is not up to date any more", options_.shard,
      options_.shards,
      is_standby() ? "its primary has continued without it" : "its replica has taken over",
      message.worker));
}

// It was one of a pair, and the other server is not up to date any more.
bool ZmqServer::Loop::is_degraded() const {
  return (replication_ && replication_->is_given_up()) || (standby_ && !standby_->is_waiting());
}

std::span<std::byte> ZmqServer::Loop::allocate_reply(const Request& request, std::size_t,
                                                     std::size_t bytes) {
  if (reply_payloads_.bytes() == 0) reply_payloads_.belong_to(unsent_.begin(request.from));
  return reply_payloads_.add(bytes);
}

void ZmqServer::Loop::send_reply(const Request& request, const Message& reply) {
  if (reply_to_save_) {
    *reply_to_save_ = reply;
    return;
  }
  version_ = server_.version();  // before a worker can know of it
  std::vector<zmq::message_t> bodies = reply_payloads_.take();
  if (reply.parts.empty()) bodies.clear();
  workers_.note_reply(request, reply);
  const bool changes =
      request.message.type == MessageType::kPush || request.message.type == MessageType::kStore;
  if (changes && reply.type == MessageType::kError && reply.error != ErrorCode::kComm) {
    rejections_.add(fmt::format("a push of worker {}: {}", reply.worker, reply.reason));
  }
  if (request.from == kNoReply) return standby_->check_applied(request, reply);
  // The reply to a ping depends on no change.
  const bool may_send = request.message.type == MessageType::kPing || !replication_ ||
                        replication_->is_acknowledged();
  if (!may_send) return replication_->hold(request.from, reply, std::move(bodies));
  send(request.from, reply, std::move(bodies));
}

void ZmqServer::Loop::reject(const Request& request, ErrorCode error, const std::string& why) {
  send_reply(request, error_reply(request.message, error, why));
}

void ZmqServer::Loop::send(std::uint64_t to, const Message& reply,
                           std::vector<zmq::message_t> bodies) {
  Message marked = reply;
  marked.is_degraded = is_degraded();
  socket_.send(to, encode_header(marked), std::move(bodies));
}

}  // namespace trireme::server
