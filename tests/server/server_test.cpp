// The server without a network: thousands of schedules in which requests overtake each other, come
// twice or not at all, answers get lost, and workers die and come back; a log says what was done.
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
using server::Answers;
using server::Consistency;
using server::Declaration;
using server::Form;
using server::Message;
using server::Part;
using server::Request;
using server::Server;
using server::Verb;
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
  bool backup = false;  // a copy follows, and takes over in the middle
};

/// A server's journal on its way to the copy.
class Copy final : public server::Journal {
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

  void deliver_one(Answers& answers) {
    if (entries_.empty()) return;
    auto entry = std::make_shared<Entry>(std::move(entries_.front()));
    entries_.pop_front();
    const Message message = entry->message;
    server_->follow({.message = message, .memory = entry}, answers);
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

/// Worker r adds 1 to its own elements with each push, so that what is read says how many pushes of
/// each worker have been applied.
class Simulation final : public Answers {
 public:
  explicit Simulation(const Schedule& schedule)
      : schedule_(schedule),
        random_(schedule.seed),
        server_(std::make_unique<Server>(Server::Options{})),
        workers_(static_cast<std::size_t>(schedule.workers)) {
    if (schedule_.backup) server_->keep_journal(&copy_.emplace());
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
      ASSERT_LT(++idle, 200'000) << "nobody gets any further, seed " << schedule_.seed;
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
      if (copy_) follow();
      if (testing::Test::HasFatalFailure()) return;
    }
    check_end();
  }

  std::span<std::byte> place(const Request&, std::size_t, std::size_t bytes) override {
    placed_.emplace_back(bytes);
    return placed_.back();
  }

  void answer(const Request& request, const Message& answer) override {
    if (request.from == server::kNobody) {
      placed_.clear();
      return;
    }
    Answer copy{.worker = request.message.worker,
                .life = request.message.life,
                .verb = answer.verb,
                .sequence = answer.sequence,
                .clock = answer.clock,
                .text = answer.text,
                .values = {},
                .entry = copy_ ? copy_->appended() : 0};
    if (!answer.parts.empty()) {
      const auto payload = answer.parts[0].payload;
      copy.values.resize(payload.size() / sizeof(float));
      std::memcpy(copy.values.data(), payload.data(), payload.size());
    }
    placed_.clear();
    answers_.push_back(std::move(copy));
  }

  int repeated() const { return repeated_; }
  int killed() const { return killed_; }
  int failovers() const { return failovers_; }

 private:
  struct Worker {
    std::uint64_t life = 0;
    std::uint64_t sequence = 0;
    std::int64_t clock = 0;
    Verb verb = Verb::kJoin;  // of the request that it waits for
    bool is_done = false;
    int steps = 0;    // answered, over all lives
    int unknown = 0;  // pushes of lives that died before they were answered
    std::vector<float> gradient;
  };
  struct Answer {
    std::uint32_t worker = 0;
    std::uint64_t life = 0;
    Verb verb{};
    std::uint64_t sequence = 0;
    std::int64_t clock = 0;
    std::string text;
    std::vector<float> values;
    std::uint64_t entry = 0;  // that the copy must have before this goes out
  };

  std::int64_t count() const { return kEach * schedule_.workers; }
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  std::ptrdiff_t pick(std::size_t size) { return static_cast<std::ptrdiff_t>(random_() % size); }
  bool is_synchronous() const { return schedule_.mode == Mode::kSynchronous; }

  bool all_done() const {
    return std::ranges::all_of(workers_, [](const Worker& worker) { return worker.is_done; });
  }

  Declaration declaration() const {
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
    one.life = ++lives_;
    one.sequence = 0;
    ask(worker, Verb::kJoin);
  }

  void ask(int worker, Verb verb) {
    Worker& one = workers_[static_cast<std::size_t>(worker)];
    ++one.sequence;
    one.verb = verb;
    requests_.push_back(request_of(worker));
  }

  // The request that a worker waits for.
  Message request_of(int worker) const {
    const Worker& one = workers_[static_cast<std::size_t>(worker)];
    Message message{.verb = one.verb,
                    .worker = static_cast<std::uint32_t>(worker),
                    .life = one.life,
                    .sequence = one.sequence,
                    .clock = one.clock,
                    // A step in step is the mean over all.
                    .lr = is_synchronous() ? static_cast<double>(schedule_.workers) : 1.0};
    const Part range{.form = Form::kRange, .count = count()};
    const auto bytes = std::as_bytes(std::span(one.gradient));
    if (one.verb == Verb::kJoin) {
      message.text = to_json(declaration());
      message.parts = {{.count = 1}};
    } else if (one.verb == Verb::kStore) {
      message.parts = {
          {.form = Form::kValues, .count = count(), .payload = std::as_bytes(std::span(zeros_))}};
      message.parts[0].payload = message.parts[0].payload.first(bytes.size());
    } else if (one.verb == Verb::kPush) {
      message.parts = {{.form = Form::kGradient, .count = count(), .payload = bytes}, range};
    } else if (one.verb == Verb::kPull) {
      message.parts = {range};
    }
    return message;
  }

  void deliver_one() {
    if (requests_.empty()) return;
    const auto at = requests_.begin() + (below(3) == 0 ? pick(requests_.size()) : 0);
    const Message message = *at;
    // Now and then one comes twice.
    if (below(8) != 0) requests_.erase(at);
    server_->handle({.message = message}, now_, *this);
  }

  // The copy comes after the server, and once in a while takes its place: what is on the way to
  // either is lost then.
  void follow() {
    if (below(3) > 0) copy_->deliver_one(*this);
    if (copy_->has_all()) {
      ASSERT_EQ(copy_->server().version(), server_->version()) << "seed " << schedule_.seed;
      if (server_->store() != nullptr && server_->store()->is_complete()) {
        ASSERT_EQ(values_of(copy_->server()), values_of(*server_)) << "seed " << schedule_.seed;
      }
    }
    if (below(100) > 0) return;
    ++failovers_;
    std::erase_if(answers_, [&](const Answer& a) { return a.entry > copy_->delivered(); });
    requests_.clear();
    server_ = copy_->take_over();
    copy_.reset();
    for (int worker = 0; worker < schedule_.workers; ++worker) {
      if (!workers_[static_cast<std::size_t>(worker)].is_done) {
        requests_.push_back(request_of(worker));
      }
    }
  }

  std::vector<float> values_of(const Server& server) const {
    std::vector<float> values(static_cast<std::size_t>(count()));
    server.store()->read({.form = Form::kRange, .count = count()},
                         std::as_writable_bytes(std::span(values)));
    return values;
  }

  // As a transport does where an answer does not come.
  void ask_again() {
    const int worker = below(schedule_.workers);
    if (workers_[static_cast<std::size_t>(worker)].is_done) return;
    requests_.push_back(request_of(worker));
    ++repeated_;
  }

  void hand_over_one() {
    if (answers_.empty()) return;
    const auto at = answers_.begin() + pick(answers_.size());
    if (copy_ && at->entry > copy_->delivered()) return;
    const Answer answer = std::move(*at);
    answers_.erase(at);
    if (answer.worker == server::kObserver) return;
    Worker& one = workers_[answer.worker];
    if (one.is_done || answer.life != one.life || answer.sequence != one.sequence) return;
    if (answer.verb == Verb::kRefusal) {
      // Overtaken by a copy of itself: it asks again.
      if (answer.text.find("came after a later one") != std::string::npos) return;
      ASSERT_THAT(answer.text, testing::HasSubstr("before anybody has stored"))
          << "seed " << schedule_.seed;
      ask_again();
      return;
    }
    take(static_cast<int>(answer.worker), answer);
  }

  void take(int worker, const Answer& answer) {
    Worker& one = workers_[static_cast<std::size_t>(worker)];
    const std::int64_t clock_before = one.clock;
    if (one.verb == Verb::kJoin || one.verb == Verb::kPush || one.verb == Verb::kPull) {
      one.clock = answer.clock;
    }
    if (!answer.values.empty()) check_read(worker, answer.values);
    switch (one.verb) {
      case Verb::kJoin:
        return ask(worker, worker == 0 && !stored_ ? Verb::kStore : Verb::kPull);
      case Verb::kStore:
        stored_ = true;
        return ask(worker, Verb::kPull);
      case Verb::kPush:
        ASSERT_GT(one.clock, clock_before);
        ++one.steps;
        [[fallthrough]];
      case Verb::kPull:
        if (one.clock >= schedule_.steps) return ask(worker, Verb::kLeave);
        return ask(worker, Verb::kPush);
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
    if (one.verb == Verb::kPush) ++one.unknown;
    if (below(2) == 0) server_->lose(static_cast<std::uint32_t>(worker), "it was killed", *this);
    // What it sent last may still come, but no request to join: its connection is gone before
    // another process is there.
    const bool all = below(2) == 0;
    std::erase_if(requests_, [&](const Message& message) {
      return message.life == one.life && (all || message.verb == Verb::kJoin);
    });
    start(worker);
  }

  void hold() {
    const auto ask = [&](const std::string& text) {
      server_->handle(
          {.message = {.verb = Verb::kHold, .worker = server::kObserver, .life = 77, .text = text}},
          now_, *this);
    };
    ask("");
    for (int i = 0; i < 5; ++i) deliver_one();
    ask("-");
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
      // Each push that was answered once, each that was not at most once.
      ASSERT_GE(applied, one.steps) << "seed " << schedule_.seed;
      ASSERT_LE(applied, one.steps + one.unknown) << "seed " << schedule_.seed;
    }
    ASSERT_EQ(server_->version(), is_synchronous() ? schedule_.steps : all);
    ASSERT_TRUE(server_->is_over());
  }

  Schedule schedule_;
  std::mt19937 random_;
  std::unique_ptr<Server> server_;
  std::optional<Copy> copy_;
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
  if (schedule.backup) {
    EXPECT_GT(failovers, times / 2);
  }
}

TEST(ServerSchedules, InStepApplyEachStepOnceAndReadExactlyIt) {
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

TEST(ServerSchedules, WithDeathsApplyNoPushTwiceAndLoseNoneThatWasAnswered) {
  simulate({.mode = Mode::kBounded, .deaths = true}, 1000);
  simulate({.mode = Mode::kAsynchronous, .deaths = true}, 1000);
}

TEST(ServerSchedules, InWhichSomebodyFetchesKeepTheirPromises) {
  simulate({.mode = Mode::kSynchronous, .holds = true}, 500);
  simulate({.mode = Mode::kBounded, .holds = true}, 500);
}

TEST(ServerSchedules, InWhichABackupTakesOverLoseNoPushThatWasAnswered) {
  simulate({.mode = Mode::kSynchronous, .backup = true}, 500);
  simulate({.mode = Mode::kSynchronous, .backup_workers = 1, .holds = true, .backup = true}, 500);
  simulate({.mode = Mode::kBounded, .holds = true, .backup = true}, 500);
  simulate({.mode = Mode::kBounded, .deaths = true, .backup = true}, 500);
  simulate({.mode = Mode::kAsynchronous, .deaths = true, .holds = true, .backup = true}, 500);
}

// The last answer, and the clock in the last one to each worker.
struct Heard final : Answers {
  std::span<std::byte> place(const Request&, std::size_t, std::size_t bytes) override {
    memory.assign(bytes, std::byte{0});
    return memory;
  }
  void answer(const Request&, const Message& answer) override {
    last.emplace(answer);
    last->parts.clear();
    clocks[answer.worker] = answer.clock;
  }

  std::vector<std::byte> memory;
  std::map<std::uint32_t, std::int64_t> clocks;
  std::optional<Message> last;
};

TEST(Server, LetsAWorkerInAnothersPlaceBeginWhereTheSlowestOfTheRestIs) {
  Server server({});
  Heard heard;
  const Declaration model{.dense = {{"w", kEach}},
                          .consistency = {.mode = Mode::kBounded, .workers = 2, .staleness = 1}};
  const std::vector<float> gradient(kEach, 1);
  const Part part{.count = kEach, .payload = std::as_bytes(std::span(gradient))};
  const auto ask = [&](Message message) {
    heard.last.reset();
    server.handle({.message = std::move(message)}, {}, heard);
    return heard.last.has_value();
  };
  const auto join = [&](std::uint32_t worker, std::uint64_t life) {
    EXPECT_TRUE(ask({.verb = Verb::kJoin,
                     .worker = worker,
                     .life = life,
                     .sequence = 1,
                     .parts = {{.count = 1}},
                     .text = to_json(model)}));
  };
  std::uint64_t sequence = 1;
  const auto push = [&] {
    Part pushed = part;
    pushed.form = Form::kGradient;
    return ask({.verb = Verb::kPush,
                .worker = 0,
                .life = 7,
                .sequence = ++sequence,
                .lr = 0.1,
                .parts = {pushed, {.form = Form::kRange, .count = kEach}}});
  };
  join(0, 7);
  Part stored = part;
  stored.form = Form::kValues;
  ASSERT_TRUE(ask(
      {.verb = Verb::kStore, .worker = 0, .life = 7, .sequence = ++sequence, .parts = {stored}}));
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
  // Before anybody has noticed that the one before is gone: what waited for that one is answered.
  join(1, 10);
  EXPECT_EQ(heard.clocks[1], 12);
  EXPECT_EQ(heard.clocks[0], 12);
}

}  // namespace
}  // namespace trireme::test
