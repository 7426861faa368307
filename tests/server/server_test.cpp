// The server without a network: thousands of random schedules in which requests overtake each
// other, arrive twice or not at all, replies get lost, workers die and rejoin, and a replica takes
// over.
#include "trireme/server/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using server::Consistency;
using server::Message;
using server::MessageType;
using server::ModelSchema;
using server::Part;
using server::PartKind;
using server::ReplySink;
using server::Request;
using server::Server;
using Mode = Consistency::Mode;

constexpr std::int64_t kEach = 16;  // elements of each worker

struct Schedule {
  Mode mode = Mode::kAsynchronous;
  int workers = 3;
  int staleness = 0;
  int backup_workers = 0;
  int steps = 12;
  unsigned seed = 0;
  bool deaths = false;
  bool holds = false;
  bool replica = false;  // a replica applies the log, and takes over in the middle
};

/// The replication log of a server on its way to the replica.
class Replica final : public server::ReplicationLog {
 public:
  void append(const Message& entry) override {
    Entry& last = entries_.emplace_back();
    last.message = entry;
    for (Part& part : last.message.parts) {
      last.payloads.emplace_back(part.payload.begin(), part.payload.end());
      part.payload = last.payloads.back();
    }
    ++appended_;
  }

  void deliver_one(ReplySink& answers) {
    if (entries_.empty()) return;
    auto entry = std::make_shared<Entry>(std::move(entries_.front()));
    entries_.pop_front();
    const Message message = entry->message;
    server_->apply_log_entry({.message = message, .memory = entry}, answers);
    ++delivered_;
  }

  std::uint64_t appended() const { return appended_; }
  std::uint64_t delivered() const { return delivered_; }
  bool has_all() const { return entries_.empty(); }
  Server& server() { return *server_; }
  std::unique_ptr<Server> take_over() { return std::move(server_); }

 private:
  struct Entry {
    Message message;
    std::deque<std::vector<std::byte>> payloads;
  };

  std::unique_ptr<Server> server_ = std::make_unique<Server>(Server::Options{});
  std::deque<Entry> entries_;
  std::uint64_t appended_ = 0;
  std::uint64_t delivered_ = 0;
};

/// Worker r adds 1 to its own elements with each push, so that the values show how many pushes of
/// each worker have been applied.
class Simulation final : public ReplySink {
 public:
  explicit Simulation(const Schedule& schedule)
      : schedule_(schedule),
        random_(schedule.seed),
        server_(std::make_unique<Server>(Server::Options{})),
        workers_(static_cast<std::size_t>(schedule.workers)) {
    if (schedule_.replica) server_->set_replication_log(&replica_.emplace());
    for (int worker = 0; worker < schedule_.workers; ++worker) {
      Worker& one = workers_[static_cast<std::size_t>(worker)];
      one.gradient.assign(static_cast<std::size_t>(count()), 0.0F);
      for (int i = 0; i < kEach; ++i) {
        one.gradient[static_cast<std::size_t>(worker * kEach + i)] = -1.0F;
      }
      start(worker);
    }
  }

  /// Ends when all workers have done their steps and left.
  void run() {
    int idle = 0;
    while (!all_done()) {
      ASSERT_LT(++idle, 200'000) << "no worker makes progress, seed " << schedule_.seed;
      now_ += 1ms;
      switch (below(12)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
          deliver_one();
          break;
        case 5:
        case 6:
        case 7:
          hand_over_one();
          break;
        case 8:
          if (!answers_.empty()) answers_.erase(answers_.begin() + pick(answers_.size()));
          break;
        case 9:
          ask_again();
          break;
        case 10:
          if (schedule_.deaths && below(40) == 0) kill(below(schedule_.workers));
          break;
        default:
          if (schedule_.holds && below(10) == 0) hold();
          server_->time_passed(now_, *this);
      }
      if (replica_) follow();
      if (testing::Test::HasFatalFailure()) return;
    }
    check_end();
  }

  std::span<std::byte> allocate_reply(const Request&, std::size_t, std::size_t bytes) override {
    placed_.emplace_back(bytes);
    return placed_.back();
  }

  void send_reply(const Request& request, const Message& answer) override {
    if (request.from == server::kNoReply) {
      placed_.clear();
      return;
    }
    Answer kept{.worker = request.message.worker,
                .incarnation = request.message.incarnation,
                .type = answer.type,
                .sequence = answer.sequence,
                .clock = answer.clock,
                .reason = answer.reason,
                .values = {},
                .entry = replica_ ? replica_->appended() : 0};
    if (!answer.parts.empty()) {
      const auto payload = answer.parts[0].payload;
      kept.values.resize(payload.size() / sizeof(float));
      std::memcpy(kept.values.data(), payload.data(), payload.size());
    }
    placed_.clear();
    answers_.push_back(std::move(kept));
  }

  int repeated() const { return repeated_; }
  int killed() const { return killed_; }
  int failovers() const { return failovers_; }

 private:
  struct Worker {
    std::uint64_t incarnation = 0;
    std::uint64_t sequence = 0;
    std::int64_t clock = 0;
    MessageType type = MessageType::kJoin;  // of the request that it waits for
    bool is_done = false;
    int steps = 0;    // replied to, over all incarnations
    int unknown = 0;  // pushes of incarnations that died before the reply
    std::vector<float> gradient;
  };
  struct Answer {
    std::uint32_t worker = 0;
    std::uint64_t incarnation = 0;
    MessageType type{};
    std::uint64_t sequence = 0;
    std::int64_t clock = 0;
    std::string reason;
    std::vector<float> values;
    std::uint64_t entry = 0;  // that the replica must have before this is delivered
  };

  std::int64_t count() const { return kEach * schedule_.workers; }
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  std::ptrdiff_t pick(std::size_t size) { return static_cast<std::ptrdiff_t>(random_() % size); }
  bool is_synchronous() const { return schedule_.mode == Mode::kSynchronous; }

  bool all_done() const {
    return std::ranges::all_of(workers_, [](const Worker& worker) { return worker.is_done; });
  }

  ModelSchema schema() const {
    return {.dense = {{"w", count()}},
            .sparse = {},
            .optimizer = {},
            .consistency = {.mode = schedule_.mode,
                            .workers = schedule_.workers,
                            .staleness = schedule_.staleness,
                            .backup_workers = schedule_.backup_workers}};
  }

  void start(int worker) {
    Worker& one = workers_[static_cast<std::size_t>(worker)];
    one.incarnation = ++lives_;
    one.sequence = 0;
    ask(worker, MessageType::kJoin);
  }

  void ask(int worker, MessageType type) {
    Worker& one = workers_[static_cast<std::size_t>(worker)];
    ++one.sequence;
    one.type = type;
    requests_.push_back(request_of(worker));
  }

  // The request that a worker waits for.
  Message request_of(int worker) const {
    const Worker& one = workers_[static_cast<std::size_t>(worker)];
    Message message{.type = one.type,
                    .worker = static_cast<std::uint32_t>(worker),
                    .incarnation = one.incarnation,
                    .sequence = one.sequence,
                    .clock = one.clock,
                    // A synchronous step is the mean over all workers.
                    .lr = is_synchronous() ? static_cast<double>(schedule_.workers) : 1.0};
    const Part range{.kind = PartKind::kReadRange, .count = count()};
    const auto bytes = std::as_bytes(std::span(one.gradient));
    if (one.type == MessageType::kJoin) {
      message.schema = to_json(schema());
      message.shard = {0, 1};
    } else if (one.type == MessageType::kStore) {
      message.parts = {{.kind = PartKind::kValues,
                        .count = count(),
                        .payload = std::as_bytes(std::span(zeros_))}};
      message.parts[0].payload = message.parts[0].payload.first(bytes.size());
    } else if (one.type == MessageType::kPush) {
      message.parts = {{.kind = PartKind::kGradient, .count = count(), .payload = bytes}, range};
    } else if (one.type == MessageType::kPull) {
      message.parts = {range};
    }
    return message;
  }

  void deliver_one() {
    if (requests_.empty()) return;
    const auto at = requests_.begin() + (below(3) == 0 ? pick(requests_.size()) : 0);
    const Message message = *at;
    // Sometimes a message arrives twice.
    if (below(8) != 0) requests_.erase(at);
    server_->handle({.message = message}, now_, *this);
  }

  // The replica applies the log later than the server, and sometimes takes its place: messages on
  // the way to either are lost then.
  void follow() {
    if (below(3) > 0) replica_->deliver_one(*this);
    if (replica_->has_all()) {
      ASSERT_EQ(replica_->server().version(), server_->version()) << "seed " << schedule_.seed;
      if (server_->store() != nullptr && server_->store()->is_complete()) {
        ASSERT_EQ(values_of(replica_->server()), values_of(*server_)) << "seed " << schedule_.seed;
      }
    }
    if (below(100) > 0) return;
    ++failovers_;
    std::erase_if(answers_, [&](const Answer& a) { return a.entry > replica_->delivered(); });
    requests_.clear();
    server_ = replica_->take_over();
    replica_.reset();
    for (int worker = 0; worker < schedule_.workers; ++worker) {
      if (!workers_[static_cast<std::size_t>(worker)].is_done) {
        requests_.push_back(request_of(worker));
      }
    }
  }

  std::vector<float> values_of(const Server& server) const {
    std::vector<float> values(static_cast<std::size_t>(count()));
    server.store()->read({.kind = PartKind::kReadRange, .count = count()},
                         std::as_writable_bytes(std::span(values)));
    return values;
  }

  // As a transport does if a reply does not come.
  void ask_again() {
    const int worker = below(schedule_.workers);
    if (workers_[static_cast<std::size_t>(worker)].is_done) return;
    requests_.push_back(request_of(worker));
    ++repeated_;
  }

  void hand_over_one() {
    if (answers_.empty()) return;
    const auto at = answers_.begin() + pick(answers_.size());
    if (replica_ && at->entry > replica_->delivered()) return;
    const Answer answer = std::move(*at);
    answers_.erase(at);
    if (answer.worker == server::kObserver) return;
    Worker& one = workers_[answer.worker];
    if (one.is_done || answer.incarnation != one.incarnation || answer.sequence != one.sequence)
      return;
    if (answer.type == MessageType::kError) {
      // A later copy of the request was first: the worker asks again.
      if (answer.reason.find("came after a later one") != std::string::npos) return;
      ASSERT_THAT(answer.reason, testing::HasSubstr("before a worker has stored"))
          << "seed " << schedule_.seed;
      ask_again();
      return;
    }
    take(static_cast<int>(answer.worker), answer);
  }

  void take(int worker, const Answer& answer) {
    Worker& one = workers_[static_cast<std::size_t>(worker)];
    const std::int64_t clock_before = one.clock;
    if (one.type == MessageType::kJoin || one.type == MessageType::kPush ||
        one.type == MessageType::kPull) {
      one.clock = answer.clock;
    }
    if (!answer.values.empty()) check_read(worker, answer.values);
    switch (one.type) {
      case MessageType::kJoin:
        return ask(worker, worker == 0 && !stored_ ? MessageType::kStore : MessageType::kPull);
      case MessageType::kStore:
        stored_ = true;
        return ask(worker, MessageType::kPull);
      case MessageType::kPush:
        ASSERT_GT(one.clock, clock_before);
        ++one.steps;
        [[fallthrough]];
      case MessageType::kPull:
        if (one.clock >= schedule_.steps) return ask(worker, MessageType::kLeave);
        return ask(worker, MessageType::kPush);
      default:
        one.is_done = true;
    }
  }

  void check_read(int worker, const std::vector<float>& values) {
    const Worker& one = workers_[static_cast<std::size_t>(worker)];
    for (int other = 0; other < schedule_.workers; ++other) {
      const float applied = values[static_cast<std::size_t>(other * kEach)];
      for (int i = 0; i < kEach; ++i) {
        ASSERT_EQ(values[static_cast<std::size_t>(other * kEach + i)], applied) << "half a push";
      }
      if (schedule_.deaths) continue;  // clocks begin anew
      if (is_synchronous() && schedule_.backup_workers == 0) {
        ASSERT_EQ(applied, static_cast<float>(one.clock)) << "seed " << schedule_.seed;
      } else if (schedule_.mode == Mode::kBounded) {
        ASSERT_GE(applied, static_cast<float>(one.clock - schedule_.staleness))
            << "seed " << schedule_.seed;
      }
      if (!is_synchronous() && other == worker) {
        ASSERT_EQ(applied, static_cast<float>(one.clock)) << "a worker reads its own writes";
      }
    }
  }

  void kill(int worker) {
    Worker& one = workers_[static_cast<std::size_t>(worker)];
    if (one.is_done || (worker == 0 && !stored_)) return;
    ++killed_;
    if (one.type == MessageType::kPush) ++one.unknown;
    if (below(2) == 0) server_->lose(static_cast<std::uint32_t>(worker), "it was killed", *this);
    // Its last requests may still arrive, but no request to join: the connection closes before the
    // replacement starts.
    const bool all = below(2) == 0;
    std::erase_if(requests_, [&](const Message& message) {
      return message.incarnation == one.incarnation && (all || message.type == MessageType::kJoin);
    });
    start(worker);
  }

  void hold() {
    const auto ask = [&](server::SnapshotAction action) {
      server_->handle({.message = {.type = MessageType::kSnapshot,
                                   .worker = server::kObserver,
                                   .incarnation = 77,
                                   .snapshot = action}},
                      now_, *this);
    };
    ask(server::SnapshotAction::kPause);
    for (int i = 0; i < 5; ++i) deliver_one();
    ask(server::SnapshotAction::kResume);
  }

  void check_end() {
    const std::vector<float> values = values_of(*server_);
    std::int64_t all = 0;
    for (int worker = 0; worker < schedule_.workers; ++worker) {
      const Worker& one = workers_[static_cast<std::size_t>(worker)];
      const auto applied =
          static_cast<std::int64_t>(std::lround(values[static_cast<std::size_t>(worker * kEach)]));
      all += applied;
      if (is_synchronous()) {
        if (schedule_.backup_workers == 0) {
          ASSERT_EQ(applied, schedule_.steps);
        }
        continue;
      }
      // Each push that was replied to is applied once, each other one at most once.
      ASSERT_GE(applied, one.steps) << "seed " << schedule_.seed;
      ASSERT_LE(applied, one.steps + one.unknown) << "seed " << schedule_.seed;
    }
    ASSERT_EQ(server_->version(), is_synchronous() ? schedule_.steps : all);
    ASSERT_TRUE(server_->is_over());
  }

  Schedule schedule_;
  std::mt19937 random_;
  std::unique_ptr<Server> server_;
  std::optional<Replica> replica_;
  std::vector<Worker> workers_;
  std::vector<float> zeros_ = std::vector<float>(1024);
  std::deque<Message> requests_;
  std::vector<Answer> answers_;
  std::deque<std::vector<std::byte>> placed_;
  std::uint64_t lives_ = 0;
  Server::Time now_{};
  bool stored_ = false;
  int repeated_ = 0;
  int killed_ = 0;
  int failovers_ = 0;
};

void simulate(Schedule schedule, int times) {
  int repeated = 0;
  int killed = 0;
  int failovers = 0;
  for (schedule.seed = 1; schedule.seed <= static_cast<unsigned>(times); ++schedule.seed) {
    schedule.workers = 1 + static_cast<int>(schedule.seed % 4);
    if (schedule.backup_workers > 0) schedule.workers += 1;
    schedule.staleness = static_cast<int>(schedule.seed % 3);
    Simulation simulation(schedule);
    simulation.run();
    if (testing::Test::HasFatalFailure()) return;
    repeated += simulation.repeated();
    killed += simulation.killed();
    failovers += simulation.failovers();
  }
  EXPECT_GT(repeated, times);
  if (schedule.deaths) {
    EXPECT_GT(killed, times / 10);
  }
  if (schedule.replica) {
    EXPECT_GT(failovers, times / 2);
  }
}

TEST(ServerSchedules, SynchronousApplyEachStepOnceAndReadExactlyIt) {
  simulate({.mode = Mode::kSynchronous}, 1000);
}

TEST(ServerSchedules, BoundedApplyEachPushOnceAndReadNothingTooOld) {
  simulate({.mode = Mode::kBounded}, 1000);
}

TEST(ServerSchedules, AsynchronousApplyEachPushOnce) {
  simulate({.mode = Mode::kAsynchronous}, 1000);
}

TEST(ServerSchedules, WithBackupWorkersMakeEachStepOnce) {
  simulate({.mode = Mode::kSynchronous, .backup_workers = 1}, 500);
}

TEST(ServerSchedules, WithDeathsApplyNoPushTwiceAndLoseNoneThatWasRepliedTo) {
  simulate({.mode = Mode::kBounded, .deaths = true}, 1000);
  simulate({.mode = Mode::kAsynchronous, .deaths = true}, 1000);
}

TEST(ServerSchedules, WithSnapshotsKeepTheirConsistency) {
  simulate({.mode = Mode::kSynchronous, .holds = true}, 500);
  simulate({.mode = Mode::kBounded, .holds = true}, 500);
}

TEST(ServerSchedules, InWhichAReplicaTakesOverLoseNoPushThatWasRepliedTo) {
  simulate({.mode = Mode::kSynchronous, .replica = true}, 500);
  simulate({.mode = Mode::kSynchronous, .backup_workers = 1, .holds = true, .replica = true}, 500);
  simulate({.mode = Mode::kBounded, .holds = true, .replica = true}, 500);
  simulate({.mode = Mode::kBounded, .deaths = true, .replica = true}, 500);
  simulate({.mode = Mode::kAsynchronous, .deaths = true, .holds = true, .replica = true}, 500);
}

// The last reply, and the clock in the last one to each worker.
struct Heard final : ReplySink {
  std::span<std::byte> allocate_reply(const Request&, std::size_t, std::size_t bytes) override {
    memory.assign(bytes, std::byte{0});
    return memory;
  }
  void send_reply(const Request&, const Message& answer) override {
    last.emplace(answer);
    last->parts.clear();
    clocks[answer.worker] = answer.clock;
  }

  std::vector<std::byte> memory;
  std::map<std::uint32_t, std::int64_t> clocks;
  std::optional<Message> last;
};

TEST(Server, LetsAReplacementBeginAtTheSlowestClockOfTheOthers) {
  Server server({});
  Heard heard;
  const ModelSchema model{.dense = {{"w", kEach}},
                          .consistency = {.mode = Mode::kBounded, .workers = 2, .staleness = 1}};
  const std::vector<float> gradient(kEach, 1);
  const Part part{.count = kEach, .payload = std::as_bytes(std::span(gradient))};
  const auto ask = [&](Message message) {
    heard.last.reset();
    server.handle({.message = std::move(message)}, {}, heard);
    return heard.last.has_value();
  };
  const auto join = [&](std::uint32_t worker, std::uint64_t incarnation) {
    EXPECT_TRUE(ask({.type = MessageType::kJoin,
                     .worker = worker,
                     .incarnation = incarnation,
                     .sequence = 1,
                     .shard = {0, 1},
                     .schema = to_json(model)}));
  };
  std::uint64_t sequence = 1;
  const auto push = [&] {
    Part pushed = part;
    pushed.kind = PartKind::kGradient;
    return ask({.type = MessageType::kPush,
                .worker = 0,
                .incarnation = 7,
                .sequence = ++sequence,
                .lr = 0.1,
                .parts = {pushed, {.kind = PartKind::kReadRange, .count = kEach}}});
  };
  join(0, 7);
  Part stored = part;
  stored.kind = PartKind::kValues;
  ASSERT_TRUE(ask({.type = MessageType::kStore,
                   .worker = 0,
                   .incarnation = 7,
                   .sequence = ++sequence,
                   .parts = {stored}}));
  join(1, 8);
  EXPECT_TRUE(push());
  EXPECT_FALSE(push()) << "two steps ahead of the other";
  server.lose(1, "it was killed", heard);
  EXPECT_TRUE(heard.last.has_value());
  for (int step = 0; step < 8; ++step) EXPECT_TRUE(push());
  join(1, 9);
  EXPECT_EQ(heard.last->clock, 10);
  EXPECT_TRUE(push());
  EXPECT_FALSE(push()) << "two steps ahead of where the other began";
  // Before the loss of its predecessor is noticed: reads that waited for that are replied to.
  join(1, 10);
  EXPECT_EQ(heard.clocks[1], 12);
  EXPECT_EQ(heard.clocks[0], 12);
}

/// Two workers of a synchronous server with one table of three values, which are 0 in the
/// beginning.
class TwoWorkers {
 public:
  explicit TwoWorkers(std::vector<int> virtual_workers = {}) {
    const ModelSchema model{.dense = {{"w", 3}},
                            .consistency = {.mode = Mode::kSynchronous,
                                            .workers = 2,
                                            .virtual_workers = std::move(virtual_workers)}};
    for (std::uint32_t worker = 0; worker < 2; ++worker) {
      ask({.type = MessageType::kJoin,
           .worker = worker,
           .shard = {0, 1},
           .schema = to_json(model)});
    }
    const std::vector<float> zeros(3);
    ask({.type = MessageType::kStore,
         .parts = {
             {.kind = PartKind::kValues, .count = 3, .payload = std::as_bytes(std::span(zeros))}}});
  }

  /// The reply, if it has come: the last one of both pushes of a step.
  std::optional<Message> push(std::uint32_t worker, const std::vector<float>& rows,
                              double divisor) {
    return ask({.type = MessageType::kPush,
                .worker = worker,
                .clock = server.version(),
                .lr = 1,
                .scale = -1,
                .divisor = divisor,
                .parts = {{.kind = PartKind::kGradient,
                           .count = 3,
                           .payload = std::as_bytes(std::span(rows_[worker] = rows))}}});
  }

  std::vector<float> values() const {
    std::vector<float> values(3);
    server.store()->read({.kind = PartKind::kReadRange, .count = 3},
                         std::as_writable_bytes(std::span(values)));
    return values;
  }

  Server server{Server::Options{}};

 private:
  std::optional<Message> ask(Message message) {
    message.incarnation = 1;
    message.sequence = ++sequence_;
    heard_.last.reset();
    server.handle({.message = std::move(message)}, {}, heard_);
    return heard_.last;
  }

  Heard heard_;
  std::uint64_t sequence_ = 0;
  std::map<std::uint32_t, std::vector<float>> rows_;  // until both have pushed
};

TEST(Server, DividesTheSumOfAStepByTheDivisorOfItsPushes) {
  TwoWorkers workers(
      {3, 1});  // worker 0 pushes two partial sums: of two virtual workers and of one
  EXPECT_FALSE(workers.push(0, {1, 1, 3, 1e8F, 2, 4}, 7));
  EXPECT_TRUE(workers.push(1, {-1e8F, 3, 5}, 7));
  // The sum is first + (second + third): 1 + (1e8 - 1e8) in the first element.
  EXPECT_EQ(workers.values(), (std::vector<float>{1 / 7.0F, 6 / 7.0F, 12 / 7.0F}));
}

TEST(Server, DividesByTheNumberOfVirtualWorkersWithoutADivisor) {
  for (const double divisor : {0.0, 4.0}) {
    TwoWorkers workers({3, 1});
    workers.push(0, {1, 1, 3, 1, 2, 4}, divisor);
    workers.push(1, {1, 3, 5}, divisor);
    EXPECT_EQ(workers.values(), (std::vector<float>{3 / 4.0F, 6 / 4.0F, 12 / 4.0F})) << divisor;
  }
}

TEST(Server, RejectsAPushWithAnotherDivisorThanTheRestOfItsStep) {
  TwoWorkers workers;
  EXPECT_FALSE(workers.push(0, {1, 2, 3}, 5));
  const auto reply = workers.push(1, {1, 2, 3}, 6);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->error, server::ErrorCode::kUsage);
  EXPECT_THAT(reply->reason,
              testing::HasSubstr("worker 1: pushes step 1 with the divisor 6, and worker 0 with 5; "
                                 "all workers must push a step with the same divisor"));
  EXPECT_EQ(workers.values(), std::vector<float>(3)) << "nothing is applied";
  EXPECT_TRUE(workers.push(1, {1, 2, 3}, 5)) << "with the right one the step is complete";
  EXPECT_EQ(workers.values(), (std::vector<float>{2 / 5.0F, 4 / 5.0F, 6 / 5.0F}));
}

TEST(Server, TakesADivisorInSynchronousTrainingOnly) {
  for (const Consistency& consistency :
       {Consistency{.mode = Mode::kAsynchronous, .workers = 1},
        Consistency{.mode = Mode::kBounded, .workers = 1},
        Consistency{.mode = Mode::kSynchronous, .workers = 2, .backup_workers = 1}}) {
    Server server({});
    Heard heard;
    const auto ask = [&](Message message) {
      server.handle({.message = std::move(message)}, {}, heard);
      return *heard.last;
    };
    ask({.type = MessageType::kJoin,
         .incarnation = 1,
         .sequence = 1,
         .shard = {0, 1},
         .schema = to_json(ModelSchema{.dense = {}, .consistency = consistency})});
    EXPECT_THAT(
        ask({.type = MessageType::kPush, .incarnation = 1, .sequence = 2, .divisor = 3}).reason,
        testing::HasSubstr("divi"));
    EXPECT_EQ(server.version(), 0);
  }
}

// Otherwise the other worker would wait for a step that can no longer be completed.
TEST(Server, EndsAStepThatCannotBeCompletedOnceAWorkerIsLost) {
  Server server({});
  Heard heard;
  const ModelSchema model{
      .dense = {{"w", kEach}},
      .consistency = {.mode = Mode::kSynchronous, .workers = 3, .backup_workers = 1}};
  const std::vector<float> gradient(kEach, 1);
  std::uint64_t sequence = 0;
  const auto ask = [&](std::uint32_t worker, Message message) {
    message.worker = worker;
    message.incarnation = 1;
    message.sequence = ++sequence;
    heard.last.reset();
    server.handle({.message = std::move(message)}, {}, heard);
    return heard.last.has_value();
  };
  for (std::uint32_t worker = 0; worker < 3; ++worker) {
    ask(worker, {.type = MessageType::kJoin, .shard = {0, 1}, .schema = to_json(model)});
  }
  ask(0, {.type = MessageType::kStore,
          .parts = {{.kind = PartKind::kValues,
                     .count = kEach,
                     .payload = std::as_bytes(std::span(gradient))}}});
  ask(2, {.type = MessageType::kLeave});
  EXPECT_FALSE(ask(0, {.type = MessageType::kPush,
                       .parts = {{.kind = PartKind::kGradient,
                                  .count = kEach,
                                  .payload = std::as_bytes(std::span(gradient))}}}));
  server.lose(1, "it was killed", heard);
  ASSERT_TRUE(heard.last);
  EXPECT_EQ(heard.last->type, MessageType::kReply);
  EXPECT_EQ(server.version(), 0);
}

}  // namespace
}  // namespace trireme::test
