#include "tests/server/simulation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace trireme::test {

using namespace std::chrono_literals;
using server::Message;
using server::MessageType;
using server::ModelSchema;
using server::Part;
using server::PartKind;
using server::Request;
using server::Server;
using Mode = server::Consistency::Mode;

namespace {

constexpr std::int64_t kEach = 16;  // elements of each worker

}  // namespace

Simulation::Simulation(const Schedule& schedule)
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

void Simulation::run() {
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

std::span<std::byte> Simulation::allocate_reply(const Request&, std::size_t, std::size_t bytes) {
  placed_.emplace_back(bytes);
  return placed_.back();
}

void Simulation::send_reply(const Request& request, const Message& answer) {
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

std::int64_t Simulation::count() const {
  return kEach * schedule_.workers;
}

bool Simulation::is_synchronous() const {
  return schedule_.mode == Mode::kSynchronous;
}

bool Simulation::all_done() const {
  return std::ranges::all_of(workers_, [](const Worker& worker) { return worker.is_done; });
}

ModelSchema Simulation::schema() const {
  return {.dense = {{"w", count()}},
          .sparse = {},
          .optimizer = {},
          .consistency = {.mode = schedule_.mode,
                          .workers = schedule_.workers,
                          .staleness = schedule_.staleness,
                          .backup_workers = schedule_.backup_workers}};
}

void Simulation::start(int worker) {
  Worker& one = workers_[static_cast<std::size_t>(worker)];
  one.incarnation = ++lives_;
  one.sequence = 0;
  ask(worker, MessageType::kJoin);
}

void Simulation::ask(int worker, MessageType type) {
  Worker& one = workers_[static_cast<std::size_t>(worker)];
  ++one.sequence;
  one.type = type;
  requests_.push_back(request_of(worker));
}

Message Simulation::request_of(int worker) const {
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
    message.parts = {
        {.kind = PartKind::kValues, .count = count(), .payload = std::as_bytes(std::span(zeros_))}};
    message.parts[0].payload = message.parts[0].payload.first(bytes.size());
  } else if (one.type == MessageType::kPush) {
    message.parts = {{.kind = PartKind::kGradient, .count = count(), .payload = bytes}, range};
  } else if (one.type == MessageType::kPull) {
    message.parts = {range};
  }
  return message;
}

void Simulation::deliver_one() {
  if (requests_.empty()) return;
  const auto at = requests_.begin() + (below(3) == 0 ? pick(requests_.size()) : 0);
  const Message message = *at;
  // Sometimes a message arrives twice.
  if (below(8) != 0) requests_.erase(at);
  server_->handle({.message = message}, now_, *this);
}

void Simulation::follow() {
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

std::vector<float> Simulation::values_of(const Server& server) const {
  std::vector<float> values(static_cast<std::size_t>(count()));
  server.store()->read({.kind = PartKind::kReadRange, .count = count()},
                       std::as_writable_bytes(std::span(values)));
  return values;
}

void Simulation::ask_again() {
  const int worker = below(schedule_.workers);
  if (workers_[static_cast<std::size_t>(worker)].is_done) return;
  requests_.push_back(request_of(worker));
  ++repeated_;
}

void Simulation::hand_over_one() {
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
    // A later copy of the request arrived first; the worker asks again.
    if (answer.reason.find("came after a later one") != std::string::npos) return;
    ASSERT_THAT(answer.reason, testing::HasSubstr("before a worker has stored"))
        << "seed " << schedule_.seed;
    ask_again();
    return;
  }
  take(static_cast<int>(answer.worker), answer);
}

void Simulation::take(int worker, const Answer& answer) {
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

void Simulation::check_read(int worker, const std::vector<float>& values) {
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

void Simulation::kill(int worker) {
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

void Simulation::hold() {
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

void Simulation::check_end() {
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

}  // namespace trireme::test
