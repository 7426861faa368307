#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "trireme/server/server.h"

namespace trireme::test {

/// What a Simulation does. Everything random in it depends on the seed only.
struct Schedule {
  server::Consistency::Mode mode = server::Consistency::Mode::kAsynchronous;
  int workers = 3;
  int staleness = 0;
  int backup_workers = 0;
  int steps = 12;
  unsigned seed = 0;
  bool deaths = false;
  bool holds = false;
  bool replica = false;  // a replica applies the log, and takes over after some time
};

/// The replication log between a server and its replica, which applies it later.
class Replica final : public server::ReplicationLog {
 public:
  void append(const server::Message& entry) override {
    Entry& last = entries_.emplace_back();
    last.message = entry;
    for (server::Part& part : last.message.parts) {
      last.payloads.emplace_back(part.payload.begin(), part.payload.end());
      part.payload = last.payloads.back();
    }
    ++appended_;
  }

  void deliver_one(server::ReplySink& answers) {
    if (entries_.empty()) return;
    auto entry = std::make_shared<Entry>(std::move(entries_.front()));
    entries_.pop_front();
    const server::Message message = entry->message;
    server_->apply_log_entry({.message = message, .memory = entry}, answers);
    ++delivered_;
  }

  std::uint64_t appended() const { return appended_; }
  std::uint64_t delivered() const { return delivered_; }
  bool has_all() const { return entries_.empty(); }
  server::Server& server() { return *server_; }
  std::unique_ptr<server::Server> take_over() { return std::move(server_); }

 private:
  struct Entry {
    server::Message message;
    std::deque<std::vector<std::byte>> payloads;
  };

  std::unique_ptr<server::Server> server_ =
      std::make_unique<server::Server>(server::Server::Options{});
  std::deque<Entry> entries_;
  std::uint64_t appended_ = 0;
  std::uint64_t delivered_ = 0;
};

/// Workers and a server, in one thread, with the messages between them in random order. Worker r
/// adds 1 to its own elements with each push, so that the values show how many pushes of each
/// worker have been applied. Failures are those of gtest.
class Simulation final : public server::ReplySink {
 public:
  explicit Simulation(const Schedule& schedule);

  /// Returns when all workers have done their steps and left.
  void run();

  std::span<std::byte> allocate_reply(const server::Request&, std::size_t,
                                      std::size_t bytes) override;
  void send_reply(const server::Request& request, const server::Message& answer) override;

  int repeated() const { return repeated_; }
  int killed() const { return killed_; }
  int failovers() const { return failovers_; }

 private:
  struct Worker {
    std::uint64_t incarnation = 0;
    std::uint64_t sequence = 0;
    std::int64_t clock = 0;
    server::MessageType type = server::MessageType::kJoin;  // of the request that it waits for
    bool is_done = false;
    int steps = 0;    // replied to, over all incarnations
    int unknown = 0;  // pushes of incarnations that died before the reply
    std::vector<float> gradient;
  };
  struct Answer {
    std::uint32_t worker = 0;
    std::uint64_t incarnation = 0;
    server::MessageType type{};
    std::uint64_t sequence = 0;
    std::int64_t clock = 0;
    std::string reason;
    std::vector<float> values;
    std::uint64_t entry = 0;  // which the replica must have before this is delivered
  };

  std::int64_t count() const;
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  std::ptrdiff_t pick(std::size_t size) { return static_cast<std::ptrdiff_t>(random_() % size); }
  bool is_synchronous() const;
  bool all_done() const;
  server::ModelSchema schema() const;
  void start(int worker);
  void ask(int worker, server::MessageType type);
  // The request that a worker waits for.
  server::Message request_of(int worker) const;
  void deliver_one();
  // The replica applies the log later than the server. Sometimes it takes over; messages in flight
  // are then lost.
  void follow();
  std::vector<float> values_of(const server::Server& server) const;
  // Sends a request again, as a transport does without a reply.
  void ask_again();
  void hand_over_one();
  void take(int worker, const Answer& answer);
  void check_read(int worker, const std::vector<float>& values);
  void kill(int worker);
  void hold();
  void check_end();

  Schedule schedule_;
  std::mt19937 random_;
  std::unique_ptr<server::Server> server_;
  std::optional<Replica> replica_;
  std::vector<Worker> workers_;
  std::vector<float> zeros_ = std::vector<float>(1024);
  std::deque<server::Message> requests_;
  std::vector<Answer> answers_;
  std::deque<std::vector<std::byte>> placed_;
  std::uint64_t lives_ = 0;
  server::Server::Time now_{};
  bool stored_ = false;
  int repeated_ = 0;
  int killed_ = 0;
  int failovers_ = 0;
};

}  // namespace trireme::test
