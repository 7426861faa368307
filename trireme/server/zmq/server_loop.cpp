#include "trireme/server/zmq/server_loop.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kTick = 50ms;
constexpr int kMessagesAtATime = 64;  // before something else gets its turn

Server::Time now() {
  return Clock::now().time_since_epoch();
}

// A request as it lies in memory, counted as long as somebody needs it.
struct Held {
  Held(std::vector<zmq::message_t> frames, std::atomic<std::size_t>& count)
      : arrived(std::move(frames)), bytes(arrived.bytes()), all(count) {
    all += bytes;
  }
  ~Held() { all -= bytes; }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  Arrived arrived;
  std::size_t bytes;
  std::atomic<std::size_t>& all;
};

Server server_with(const ZmqServer::Options& options) {
  Server server({.shard = options.shard,
                 .shards = options.shards,
                 .checkpoints = options.checkpoints,
                 .max_answer_bytes = options.max_message_bytes,
                 .max_model_bytes = options.max_model_bytes});
  if (!options.restore.empty()) server.restore(options.restore);
  return server;
}

}  // namespace

ZmqServer::Loop::Loop(Options options)
    : options_(std::move(options)),
      server_(server_with(options_)),
      refusals_(options_.log),
      socket_(context_, options_, refusals_),
      peers_(options_, socket_),
      version_(server_.version()) {
  if (options_.standby) standby_.emplace(options_, server_, peers_, socket_);
  if (!options_.backup.empty()) backup_.emplace(context_, options_, socket_.keys(), server_);
  thread_ = std::thread([this] { run(); });
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
  return {requests_, refusals_.count(), socket_.connections(), held_bytes_, version_};
}

std::string ZmqServer::Loop::save() {
  save_.emplace();
  server_.handle({.message = {.verb = Verb::kSave, .worker = kObserver}}, now(), *this);
  const Message answer = *std::exchange(save_, std::nullopt);
  if (answer.verb == Verb::kAnswer) return answer.text;
  if (answer.clock == kDataFault) throw DataError(answer.text);
  throw UsageError(answer.text);
}

void ZmqServer::Loop::run() {
  try {
    auto next_look = Clock::now();
    while (!stop_) {
      wait();
      if (backup_) {
        backup_->look(
            [this](std::uint64_t to, const Message& answer, std::vector<zmq::message_t> bodies) {
              send(to, answer, std::move(bodies));
            });
      }
      const auto read_one = [this](ServerSocket::Incoming incoming) { read(std::move(incoming)); };
      for (int i = 0; i < kMessagesAtATime && socket_.take_one(read_one); ++i) {
      }
      socket_.look();
      if (Clock::now() < next_look) continue;
      next_look = Clock::now() + kTick;
      look_around();
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
  if (backup_) backup_->add_poll_items(items);
  zmq::poll(items.data(), items.size(), kTick);
}

void ZmqServer::Loop::look_around() {
  if (!is_standby()) {
    peers_.look_for_the_lost(
        [this](std::uint32_t worker, const std::string& why) { server_.lose(worker, why, *this); });
    server_.time_passed(now(), *this);
  }
  refusals_.time_passed();
  const std::lock_guard lock(mutex_);
  is_over_ = server_.is_over();
  if (is_over_) changed_.notify_all();
}

void ZmqServer::Loop::read(ServerSocket::Incoming incoming) {
  const std::uint64_t from = incoming.from;
  const auto held = std::make_shared<Held>(std::move(incoming.frames), held_bytes_);
  std::optional<Message> message = decoded(from, held->arrived);
  if (!message) return;
  ++requests_;
  Request request{.message = std::move(*message), .from = from};
  const bool is_entry = is_standby() && standby_->follows(from);
  if (held_bytes_ > options_.max_held_bytes && !is_entry) {
    return refuse(request, kUsageFault,
                  fmt::format("server {} of {}: holds {} bytes of requests that wait, more than "
                              "its limit; use more shards or fewer workers",
                              options_.shard, options_.shards, held_bytes_.load()));
  }
  request.memory = held;
  end_if_left_alone(request.message);
  if (is_standby()) {
    if (const auto reply = standby_->reply(request, *this)) {
      version_ = server_.version();
      socket_.send(from, encode_head(*reply));
      return;
    }
  }
  const bool is_followed = standby_ && standby_->follows(from);
  if (!is_standby() && (request.message.verb == Verb::kFollow || is_followed)) {
    return refuse(request, kCommFault,
                  standby_ ? "it has taken over" : "it is no backup; start it with --standby");
  }
  peers_.hear(request, incoming.client_name);
  server_.handle(std::move(request), now(), *this);
  version_ = server_.version();
}

std::optional<Message> ZmqServer::Loop::decoded(std::uint64_t from, const Arrived& arrived) {
  try {
    return decode(arrived.head(), arrived.bodies());
  } catch (const DataError& error) {
    refusals_.add(error.what());
    if (is_of_another_protocol(arrived.head())) {
      socket_.send(
          from, encode_head({.verb = Verb::kRefusal, .clock = kDataFault, .text = error.what()}));
    }
    return std::nullopt;
  }
}

// Workers hear that from the other of the pair, and pass it on.
void ZmqServer::Loop::end_if_left_alone(const Message& message) const {
  if (message.verb != Verb::kAlone || (!backup_ && !standby_)) return;
  if (!peers_.has(message.worker, message.life)) return;
  throw CommError(fmt::format(
      "server {} of {}: {}, says worker {}; this one is not up to date any more", options_.shard,
      options_.shards,
      is_standby() ? "the server has gone on without its backup" : "the backup has taken over",
      message.worker));
}

// It was one of a pair, and the other is not up to date any more.
bool ZmqServer::Loop::goes_alone() const {
  return (backup_ && backup_->is_given_up()) || (standby_ && !standby_->is_waiting());
}

std::span<std::byte> ZmqServer::Loop::place(const Request&, std::size_t, std::size_t bytes) {
  return placed_.add(bytes);
}

void ZmqServer::Loop::answer(const Request& request, const Message& answer) {
  if (save_) {
    *save_ = answer;
    return;
  }
  version_ = server_.version();  // before anybody can know of it
  std::vector<zmq::message_t> bodies = placed_.take();
  if (answer.parts.empty()) bodies.clear();
  peers_.note(request, answer);
  if (request.from == kNobody) return standby_->check_followed(request, answer);
  // A ping's answer tells of nothing that could be lost.
  const bool may_go = request.message.verb == Verb::kPing || !backup_ || backup_->has_all();
  if (!may_go) return backup_->keep(request.from, answer, std::move(bodies));
  send(request.from, answer, std::move(bodies));
}

void ZmqServer::Loop::refuse(const Request& request, std::uint8_t fault, const std::string& why) {
  answer(request, refusal_of(request.message, fault, why));
}

void ZmqServer::Loop::send(std::uint64_t to, const Message& answer,
                           std::vector<zmq::message_t> bodies) {
  if (answer.verb != Verb::kAnswer || !goes_alone()) {
    socket_.send(to, encode_head(answer), std::move(bodies));
    return;
  }
  Message from_alone = answer;
  from_alone.verb = Verb::kAlone;
  socket_.send(to, encode_head(from_alone), std::move(bodies));
}

}  // namespace trireme::server
