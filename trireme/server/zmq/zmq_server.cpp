#include "trireme/server/zmq/zmq_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <zmq.hpp>

#include "trireme/base/error.h"
#include "trireme/server/server.h"
#include "trireme/server/zmq/backup_link.h"
#include "trireme/server/zmq/doorkeeper.h"
#include "trireme/server/zmq/endpoint.h"
#include "trireme/server/zmq/frames.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/monitor.h"
#include "trireme/server/zmq/refusals.h"
#include "trireme/server/zmq/wire.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kTick = 50ms;
constexpr int kMessagesAtATime = 64;  // before something else gets its turn
constexpr std::size_t kLargestHead = std::size_t{16} << 20;
constexpr std::size_t kMostFrames = 65536;
constexpr auto kBackupLostAfter = 1s;
constexpr int kQueued = 8;  // messages a connection may have under way, each way

// Identities that ZeroMQ gives itself: a zero and four bytes.
std::optional<std::uint64_t> number_of(const zmq::message_t& identity) {
  if (identity.size() != 5 || *identity.data<char>() != 0) return std::nullopt;
  std::uint64_t number = 0;
  std::memcpy(&number, identity.data(), identity.size());
  return number;
}

zmq::message_t identity_of(std::uint64_t number) {
  return {&number, 5};
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

void check_door(const ZmqServer::Options& options) {
  const std::string who = fmt::format("server {} of {}", options.shard, options.shards);
  if (options.shards < 1 || options.shard < 0 || options.shard >= options.shards) {
    throw UsageError(fmt::format("{}: servers count from 0", who));
  }
  check_endpoint(options.endpoint, who);
  if (options.secret_key.empty() != options.clients.empty()) {
    throw UsageError(
        fmt::format("{}: needs both its secret key and the folder of its clients' keys, got only "
                    "one of them",
                    who));
  }
  if (!options.secret_key.empty()) return;
  if (!is_loopback(options.endpoint)) {
    throw UsageError(
        fmt::format("{}: does not listen on {} without keys, where anybody could change the model; "
                    "make them with `trireme keys new`",
                    who, options.endpoint));
  }
  if (!options.insecure_loopback) {
    throw UsageError(
        fmt::format("{}: without keys every user of this host can change the model; make them with "
                    "`trireme keys new`, or allow it (--insecure-loopback)",
                    who));
  }
}

}  // namespace

class ZmqServer::Loop final : public Answers {
 public:
  explicit Loop(Options options)
      : options_(std::move(options)),
        server_({.shard = options_.shard,
                 .shards = options_.shards,
                 .checkpoints = options_.checkpoints,
                 .max_answer_bytes = options_.max_message_bytes,
                 .max_model_bytes = options_.max_model_bytes}),
        refusals_(options_.log) {
    check_door(options_);
    if (!options_.restore.empty()) server_.restore(options_.restore);
    if (!options_.secret_key.empty()) {
      keys_ = read_key_pair(options_.secret_key);
      doorkeeper_.emplace(context_, options_.clients);
    }
    socket_ = zmq::socket_t(context_, zmq::socket_type::router);
    configure();
    try {
      socket_.bind(options_.endpoint);
    } catch (const zmq::error_t& error) {
      throw UsageError(fmt::format("server {} of {}: cannot listen on {}: {}", options_.shard,
                                   options_.shards, options_.endpoint, error.what()));
    }
    endpoint_ = socket_.get(zmq::sockopt::last_endpoint);
    // Its last bytes may include a zero.
    endpoint_.resize(std::strlen(endpoint_.c_str()));
    monitor_.emplace(context_, socket_);
    version_ = server_.version();
    is_standby_ = options_.standby;
    if (!options_.backup.empty()) follow_me();
    thread_ = std::thread([this] { run(); });
  }

  ~Loop() override {
    stop();
    monitor_.reset();
    backup_.reset();
    socket_.close();
  }

  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  const std::string& endpoint() const { return endpoint_; }
  const std::string& public_key() const { return keys_.public_key; }

  bool wait_until_over(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [this] { return is_over_ || error_; });
    if (error_) std::rethrow_exception(error_);
    return is_over_;
  }

  Counts counts() const {
    return {requests_, refusals_.count(), connections_, held_bytes_, version_};
  }

  bool is_standby() const { return is_standby_; }

  std::string save() {
    save_.emplace();
    server_.handle({.message = {.verb = Verb::kSave, .worker = kObserver}}, now(), *this);
    const Message answer = *std::exchange(save_, std::nullopt);
    if (answer.verb == Verb::kAnswer) return answer.text;
    if (answer.clock == kDataFault) throw DataError(answer.text);
    throw UsageError(answer.text);
  }

  std::span<std::byte> place(const Request&, std::size_t, std::size_t bytes) override {
    return placed_.add(bytes);
  }

  void answer(const Request& request, const Message& answer) override {
    if (save_) {
      *save_ = answer;
      return;
    }
    std::vector<zmq::message_t> bodies = placed_.take();
    if (answer.parts.empty()) bodies.clear();
    note(request, answer);
    if (request.from == kNobody) return check_followed(request, answer);
    Outgoing out{backup_ ? backup_->appended() : 0, request.from, answer, std::move(bodies)};
    if (request.message.verb == Verb::kPing) out.entry = 0;
    if (backup_ && !backup_->has(out.entry)) {
      outgoing_.push_back(std::move(out));
    } else {
      send(out);
    }
  }

 private:
  // A worker that has joined.
  struct Peer {
    std::uint64_t life = 0;
    std::uint64_t from = 0;
    Clock::time_point heard;
    Clock::time_point probed;
    std::optional<Clock::time_point> closed;  // found so
    std::optional<std::string> name;          // of its key, where it has said so to this server
  };

  // An answer, and what the backup must have before it goes out.
  struct Outgoing {
    std::uint64_t entry = 0;
    std::uint64_t to = 0;
    Message message;
    std::vector<zmq::message_t> bodies;
  };

  // A standby's: whom it follows.
  struct Primary {
    std::uint64_t life = 0;
    std::uint64_t from = 0;
    std::uint64_t next = 0;  // number of the entry that comes next on its connection
    std::uint64_t done = 0;
    Clock::time_point heard;
  };

  static Server::Time now() { return Clock::now().time_since_epoch(); }

  void configure() {
    socket_.set(zmq::sockopt::linger, 1000);
    // An answer to who is gone is an error here, which shows that it is.
    socket_.set(zmq::sockopt::router_mandatory, true);
    socket_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(options_.max_message_bytes));
    socket_.set(zmq::sockopt::rcvhwm, kQueued);
    socket_.set(zmq::sockopt::sndhwm, kQueued);
    socket_.set(zmq::sockopt::backlog, 64);
    socket_.set(zmq::sockopt::handshake_ivl, 5000);
    set_liveness(socket_, options_.dead_after);
    if (options_.secret_key.empty()) return;
    socket_.set(zmq::sockopt::curve_server, true);
    socket_.set(zmq::sockopt::curve_secretkey, keys_.secret_key);
    socket_.set(zmq::sockopt::zap_domain, Doorkeeper::kDomain);
  }

  void run() {
    try {
      auto next_look = Clock::now();
      while (!stop_) {
        std::vector<zmq::pollitem_t> items = {{socket_.handle(), 0, ZMQ_POLLIN, 0},
                                              monitor_->poll_item()};
        if (backup_) backup_->add_poll_items(items);
        zmq::poll(items.data(), items.size(), kTick);
        if (backup_) backup_->look();
        send_what_the_backup_has();
        for (int i = 0; i < kMessagesAtATime && take_one(); ++i) {
        }
        monitor_->read([this](std::uint16_t event, std::uint32_t value) { see(event, value); });
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

  // False if nothing has come.
  bool take_one() {
    zmq::message_t identity;
    if (!socket_.recv(identity, zmq::recv_flags::dontwait)) return false;
    std::vector<zmq::message_t> frames;
    bool more = identity.more();
    std::size_t bytes = 0;
    while (more) {
      zmq::message_t frame;
      static_cast<void>(socket_.recv(frame, zmq::recv_flags::none));
      more = frame.more();
      bytes += frame.size();
      // The rest of one that is refused is taken out all the same.
      if (frames.size() < kMostFrames && bytes <= options_.max_message_bytes) {
        frames.push_back(std::move(frame));
      }
    }
    const auto from = number_of(identity);
    if (!from) {
      refusals_.add("a client that chose its own identity");
    } else if (frames.empty() || frames.size() == kMostFrames ||
               frames.front().size() > kLargestHead) {
      refusals_.add("a message whose frames are none of trireme's");
    } else if (bytes > options_.max_message_bytes) {
      refuse_size(*from, frames, bytes);
    } else if (const char* const name = name_of(frames.front());
               name == nullptr && !keys_.public_key.empty()) {
      // Without a doorkeeper libzmq would let everybody in.
      refusals_.add("a client that nobody has let in");
    } else {
      read(*from, name == nullptr ? "" : name, std::move(frames));
    }
    return true;
  }

  static const char* name_of(zmq::message_t& frame) {
    try {
      return frame.gets("User-Id");
    } catch (const zmq::error_t&) {
      return nullptr;  // no keys, no names
    }
  }

  // A good worker with a model that is too large is told so.
  void refuse_size(std::uint64_t from, const std::vector<zmq::message_t>& frames,
                   std::size_t bytes) {
    const std::string why = fmt::format(
        "server {} of {}: takes messages of {} bytes (--max-message-bytes), got {}; use more "
        "shards or a higher limit",
        options_.shard, options_.shards, options_.max_message_bytes, bytes);
    refusals_.add(why);
    send(from,
         encode_head(
             {.verb = Verb::kRefusal,
              .sequence = sequence_in({frames.front().data<std::byte>(), frames.front().size()}),
              .clock = kUsageFault,
              .text = why}),
         {});
  }

  void read(std::uint64_t from, const std::string& name, std::vector<zmq::message_t> frames) {
    const auto held = std::make_shared<Held>(std::move(frames), held_bytes_);
    Request request{.from = from};
    try {
      request.message = decode(held->arrived.head(), held->arrived.bodies());
    } catch (const DataError& error) {
      refusals_.add(error.what());
      if (is_of_another_protocol(held->arrived.head())) {
        send(from, encode_head({.verb = Verb::kRefusal, .clock = kDataFault, .text = error.what()}),
             {});
      }
      return;
    }
    ++requests_;
    const bool is_entry = is_standby_ && is_primary(from);
    if (held_bytes_ > options_.max_held_bytes && !is_entry) {
      return refuse(request, kUsageFault,
                    fmt::format("server {} of {}: holds {} bytes of requests that wait, more than "
                                "its limit; use more shards or fewer workers",
                                options_.shard, options_.shards, held_bytes_.load()));
    }
    request.memory = held;
    end_if_left_alone(request.message);
    if (is_standby_ && !answers_as_standby(request)) return;
    if (!is_standby_ && (request.message.verb == Verb::kFollow || is_primary(from))) {
      return refuse(request, kCommFault,
                    primary_ ? "it has taken over" : "it is no backup; start it with --standby");
    }
    hear(request, name);
    if (request.message.verb == Verb::kJoin) joining_ = name;
    server_.handle(std::move(request), now(), *this);
    version_ = server_.version();
  }

  void hear(const Request& request, const std::string& name) {
    const auto peer = peers_.find(request.message.worker);
    if (peer == peers_.end() || peer->second.life != request.message.life) return;
    // A listed client may not speak for another one.
    if (peer->second.name.value_or(name) != name) return;
    peer->second.name = name;
    peer->second.from = request.from;
    peer->second.heard = Clock::now();
    peer->second.closed.reset();
  }

  // Who is here, by what they are answered.
  void note(const Request& request, const Message& answer) {
    if (answer.verb != Verb::kAnswer) return;
    const std::uint32_t worker = request.message.worker;
    if (request.message.verb == Verb::kJoin) {
      Peer& peer = peers_[worker];
      if (peer.life != request.message.life && request.from != kNobody) {
        log(fmt::format("worker {} has joined{}, at step {}", worker,
                        joining_.empty() ? "" : fmt::format(" with the key of {}", joining_),
                        answer.clock));
      }
      peer = {.life = request.message.life,
              .from = request.from,
              .heard = Clock::now(),
              .probed = {},
              .closed = {},
              .name = {}};
      if (request.from != kNobody) peer.name = joining_;
    } else if (request.message.verb == Verb::kLeave && peers_.erase(worker) > 0 &&
               request.from != kNobody) {
      log(fmt::format("worker {} has left", worker));
    }
  }

  void follow_me() {
    const std::string who = fmt::format("server {} of {}", options_.shard, options_.shards);
    check_endpoint(options_.backup, who);
    if (options_.standby) {
      throw UsageError(fmt::format("{}: is a backup itself, and has none", who));
    }
    if (keys_.public_key.empty() ? !is_loopback(options_.backup) : options_.backup_key.empty()) {
      throw UsageError(
          fmt::format("{}: needs the public key of its backup at {}", who, options_.backup));
    }
    BackupLink::Options link{
        .endpoint = options_.backup,
        .name = fmt::format("the backup of {} at {}", who, options_.backup),
        .keys = {},
        .backup_key = {},
        .shard = options_.shard,
        .shards = options_.shards,
        .version = server_.version(),
        .connect_timeout = options_.connect_timeout,
        .lost_after = kBackupLostAfter,
        .dead_after = options_.dead_after,
        .log = options_.log,
    };
    if (!keys_.public_key.empty()) {
      link.keys = keys_;
      link.backup_key = read_public_key(options_.backup_key);
    }
    backup_.emplace(context_, std::move(link));
    server_.keep_journal(&*backup_);
  }

  // It was one of a pair, and the other is not up to date any more.
  bool goes_alone() const {
    return (backup_ && backup_->is_given_up()) || (primary_ && !is_standby_);
  }

  // Workers hear that from the other, and pass it on.
  void end_if_left_alone(const Message& message) const {
    if (message.verb != Verb::kAlone || (!backup_ && !options_.standby)) return;
    const auto peer = peers_.find(message.worker);
    if (peer == peers_.end() || peer->second.life != message.life) return;
    throw CommError(fmt::format(
        "server {} of {}: {}, says worker {}; this one is not up to date any more", options_.shard,
        options_.shards,
        is_standby_ ? "the server has gone on without its backup" : "the backup has taken over",
        message.worker));
  }

  void send(Outgoing& out) {
    if (goes_alone() && out.message.verb == Verb::kAnswer) out.message.verb = Verb::kAlone;
    // If it does not go out, it is asked for again, by whoever has reconnected.
    send(out.to, encode_head(out.message), std::move(out.bodies));
  }

  void send_what_the_backup_has() {
    while (!outgoing_.empty() && backup_->has(outgoing_.front().entry)) {
      send(outgoing_.front());
      outgoing_.pop_front();
    }
  }

  bool is_primary(std::uint64_t from) const { return primary_ && primary_->from == from; }

  // Whether a standby lets `request` through to where a server would answer it.
  bool answers_as_standby(Request& request) {
    const Message& message = request.message;
    if (message.verb == Verb::kFollow) {
      follow(request);
      return false;
    }
    if (is_primary(request.from)) {
      primary_->heard = Clock::now();
      if (message.verb == Verb::kPing) return true;
      follow_entry(std::move(request));
      return false;
    }
    // Also workers say to a standby that they are there.
    if (message.verb == Verb::kPing) return true;
    if (primary_is_gone()) {
      take_over();
      return true;
    }
    refuse(request, kBackupFault,
           fmt::format("server {} of {}: is a backup, and {}", options_.shard, options_.shards,
                       primary_ ? "the server that it follows is there"
                                : "no server has come that it could follow"));
    return false;
  }

  void refuse(const Request& request, std::uint8_t fault, const std::string& why) {
    answer(request, {.verb = Verb::kRefusal,
                     .worker = request.message.worker,
                     .sequence = request.message.sequence,
                     .clock = fault,
                     .text = why});
  }

  void follow(const Request& request) {
    const Message& message = request.message;
    const Part who = message.parts.empty() ? Part() : message.parts[0];
    const std::uint64_t done = primary_ ? primary_->done : 0;
    std::string why;
    if (who.first != options_.shard || who.count != options_.shards) {
      why = fmt::format("it is the backup of server {} of {}, not of {} of {}", options_.shard,
                        options_.shards, who.first, who.count);
    } else if (primary_ && primary_->life != message.life) {
      why = "it follows another server already";
    } else if (message.sequence > done + 1) {
      why = fmt::format("the {} entries before {} have not come", message.sequence - done - 1,
                        message.sequence);
    } else if (done == 0 && message.clock != server_.version()) {
      why = fmt::format(
          "it begins after {} updates and the server after {}; restore both from the same files",
          server_.version(), message.clock);
    }
    if (!why.empty()) return refuse(request, kUsageFault, why);
    if (!primary_) {
      log(fmt::format("follows server {} of {}", options_.shard, options_.shards));
    }
    primary_ = {.life = message.life,
                .from = request.from,
                .next = message.sequence,
                .done = done,
                .heard = Clock::now()};
    answer(request, {.verb = Verb::kAnswer, .worker = kObserver, .sequence = 1});
  }

  void follow_entry(Request request) {
    const std::uint64_t number = primary_->next++;
    if (number > primary_->done) {
      if (request.message.verb == Verb::kLost) peers_.erase(request.message.worker);
      following_ = request.message.sequence;
      server_.follow(std::move(request), *this);
      following_.reset();
      version_ = server_.version();
      primary_->done = number;
    }
    send(primary_->from,
         encode_head({.verb = Verb::kAnswer, .sequence = number, .clock = server_.version()}), {});
  }

  // What the server has done can be done here too; else this is no copy of it any more.
  void check_followed(const Request& entry, const Message& answer) const {
    if (answer.verb != Verb::kRefusal || answer.clock == kCommFault) return;
    if (following_ != entry.message.sequence) return;
    throw CommError(fmt::format("server {} of {}: cannot follow: {}", options_.shard,
                                options_.shards, answer.text));
  }

  bool primary_is_gone() {
    if (!primary_) return false;
    if (Clock::now() - primary_->heard > options_.dead_after) return true;
    const std::string head = encode_head({.verb = Verb::kAnswer, .worker = kObserver});
    return send(primary_->from, head, {}) == Sent::kNobodyThere;
  }

  void take_over() {
    log(fmt::format("takes over after {} updates: the server that it followed is gone",
                    server_.version()));
    is_standby_ = false;
    // Who does not show up is lost.
    for (auto& [worker, peer] : peers_) {
      if (peer.from != kNobody) continue;
      peer.heard = peer.closed.emplace(Clock::now());
    }
  }

  enum class Sent : std::uint8_t { kYes, kTooMuch, kNobodyThere };

  Sent send(std::uint64_t to, const std::string& head, std::vector<zmq::message_t> bodies) {
    const auto flags = [](bool more) {
      return more ? zmq::send_flags::dontwait | zmq::send_flags::sndmore
                  : zmq::send_flags::dontwait;
    };
    try {
      zmq::message_t identity = identity_of(to);
      if (!socket_.send(identity, flags(true))) {
        // ZeroMQ looks once in a millisecond at most how much of its queue has gone: make it look.
        static_cast<void>(socket_.get(zmq::sockopt::events));
        if (!socket_.send(identity, flags(true))) return Sent::kTooMuch;
      }
      zmq::message_t first(head.data(), head.size());
      if (!socket_.send(first, flags(!bodies.empty()))) return Sent::kTooMuch;
      for (std::size_t i = 0; i < bodies.size(); ++i) {
        if (!socket_.send(bodies[i], flags(i + 1 < bodies.size()))) return Sent::kTooMuch;
      }
      return Sent::kYes;
    } catch (const zmq::error_t& error) {
      if (error.num() == EHOSTUNREACH) return Sent::kNobodyThere;
      throw;
    }
  }

  void see(std::uint16_t event, std::uint32_t value) {
    switch (event) {
      case ZMQ_EVENT_ACCEPTED:
        if (static_cast<int>(open_.size()) >= options_.max_connections) {
          // Not unbind(): it would end all connections. Should the descriptor be another one's by
          // now, that one connects again.
          ::shutdown(static_cast<int>(value), SHUT_RDWR);
          refusals_.add(fmt::format("a connection beyond {}", options_.max_connections));
        }
        open_.insert(value);
        break;
      case ZMQ_EVENT_DISCONNECTED:
      case ZMQ_EVENT_CLOSED:
        open_.erase(value);
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        refusals_.add("a client whose key is not listed");
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        refusals_.add("a connection that speaks no ZeroMQ, or has no key or a wrong one");
        break;
      default:
        break;
    }
    connections_ = static_cast<int>(open_.size());
  }

  void look_around() {
    if (!is_standby_) {
      look_for_the_lost();
      server_.time_passed(now(), *this);
    }
    refusals_.time_passed();
    const std::lock_guard lock(mutex_);
    is_over_ = server_.is_over();
    if (is_over_) changed_.notify_all();
  }

  void look_for_the_lost() {
    const auto time = Clock::now();
    for (auto at = peers_.begin(); at != peers_.end();) {
      const std::uint32_t worker = at->first;
      Peer& peer = at->second;
      ++at;
      const auto silent = time - peer.heard;
      if (silent < 2 * kHeartbeat) continue;
      if (!peer.closed && time - peer.probed >= kHeartbeat) {
        peer.probed = time;
        const std::string head = encode_head({.verb = Verb::kAnswer, .worker = worker});
        if (send(peer.from, head, {}) == Sent::kNobodyThere) peer.closed = time;
      }
      if (silent >= options_.dead_after) {
        lose(worker, fmt::format("not heard of for {:.3g} s",
                                 std::chrono::duration<double>(silent).count()));
      } else if (peer.closed && time - *peer.closed >= options_.gone_after) {
        lose(worker, "its connection has closed");
      }
    }
  }

  void lose(std::uint32_t worker, const std::string& why) {
    log(fmt::format("worker {} is lost: {}", worker, why));
    peers_.erase(worker);
    server_.lose(worker, why, *this);
  }

  void log(const std::string& line) const {
    if (options_.log) options_.log(line);
  }

  Options options_;
  std::atomic<std::size_t> held_bytes_{0};  // by what the server holds
  Server server_;
  Refusals refusals_;
  KeyPair keys_;
  std::string endpoint_;
  zmq::context_t context_{1};
  std::optional<Doorkeeper> doorkeeper_;
  zmq::socket_t socket_;
  std::optional<Monitor> monitor_;

  // The thread's.
  std::optional<BackupLink> backup_;
  std::deque<Outgoing> outgoing_;
  std::optional<Primary> primary_;
  std::optional<std::uint64_t> following_;  // sequence number of the entry's request
  std::map<std::uint32_t, Peer> peers_;
  std::set<std::uint32_t> open_;  // connections, by descriptor
  Payloads placed_;
  std::string joining_;
  std::optional<Message> save_;

  std::atomic<std::int64_t> requests_{0};
  std::atomic<std::int64_t> version_{0};
  std::atomic<int> connections_{0};
  std::atomic<bool> is_standby_{false};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_over_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

ZmqServer::ZmqServer(Options options) : loop_(std::make_unique<Loop>(std::move(options))) {}
ZmqServer::~ZmqServer() = default;

const std::string& ZmqServer::endpoint() const {
  return loop_->endpoint();
}
const std::string& ZmqServer::public_key() const {
  return loop_->public_key();
}
bool ZmqServer::wait_until_over(std::chrono::milliseconds timeout) {
  return loop_->wait_until_over(timeout);
}
ZmqServer::Counts ZmqServer::counts() const {
  return loop_->counts();
}
void ZmqServer::stop() {
  loop_->stop();
}
bool ZmqServer::is_standby() const {
  return loop_->is_standby();
}
std::string ZmqServer::save() {
  return loop_->save();
}

}  // namespace trireme::server
