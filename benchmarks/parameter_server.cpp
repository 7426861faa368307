// Two workers and one server: microseconds of a push, a pull and both in one trip, over shared
// memory, over ZeroMQ on loopback and the same with CURVE, in turn, beside two processes that copy
// the same bytes at once; then updates of sparse rows on one core.
//
//   bench_parameter_server [SECONDS A FIGURE]
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "trireme/base/random.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/heap.h"
#include "trireme/server/embedded/embedded.h"
#include "trireme/server/rows.h"
#include "trireme/server/zmq/connect_servers.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/zmq_server.h"

namespace {

using namespace trireme;
using Clock = std::chrono::steady_clock;

constexpr int kWorkers = 2;
constexpr int kRounds = 7;
const std::array<std::pair<const char*, std::int64_t>, 3> kTables = {
    {{"4 B", 1}, {"1 MiB", 1 << 18}, {"16 MiB", 1 << 22}}};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

server::ModelSchema declaration() {
  server::ModelSchema model{.consistency = {.workers = kWorkers}};
  for (const auto& [name, count] : kTables) model.dense.push_back({name, count});
  return model;
}

// The link of a worker to one server, and the memory that it pushes from and pulls into.
struct Way {
  std::string name;
  std::unique_ptr<server::Client> client;
  std::vector<float*> gradients;
  std::vector<float*> values;
  std::vector<std::unique_ptr<float[]>> own;

  float* memory(std::int64_t count) {
    if (std::byte* shared = client->allocate(static_cast<std::size_t>(count) * sizeof(float))) {
      return reinterpret_cast<float*>(shared);
    }
    own.push_back(std::make_unique<float[]>(static_cast<std::size_t>(count)));
    return own.back().get();
  }

  Way(std::string called, std::unique_ptr<server::Client> connected)
      : name(std::move(called)), client(std::move(connected)) {
    client->join(declaration());
    for (const auto& [table, count] : kTables) {
      gradients.push_back(memory(count));
      values.push_back(memory(count));
      std::fill_n(gradients.back(), count, 1.0F);
      std::fill_n(values.back(), count, 0.0F);
      if (client->worker() == 0) {
        client->store(
            std::vector<server::TableValues>{{table, {values.back(), count, DType::kF32}}});
      }
    }
  }

  std::function<void()> operation(const std::string& which, std::size_t table) {
    const auto [name_of_table, count] = kTables[table];
    std::vector<server::Gradient> push = {
        {.table = name_of_table, .values = {gradients[table], count, DType::kF32}}};
    std::vector<server::TableValues> pull = {{name_of_table, {values[table], count, DType::kF32}}};
    if (which == "push") return [this, push] { client->push(push, {.lr = 1e-3}); };
    if (which == "pull") return [this, pull] { client->pull(pull); };
    return [this, push, pull] { client->push_pull(push, {.lr = 1e-3}, pull); };
  }
};

// Returns the microseconds of `operation` while all workers make it.
double microseconds(Communicator& world, const std::function<void()>& operation, double seconds) {
  operation();
  world.barrier();
  const auto begin = Clock::now();
  int done = 0;
  do {
    operation();
    ++done;
  } while (seconds_since(begin) < seconds);
  return 1e6 * seconds_since(begin) / done;
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2);
  return values[values.size() / 2];
}

void compare(Communicator& world, std::vector<Way>& ways, double seconds) {
  std::vector<char> from(std::size_t{16} << 20, 1);
  std::vector<char> to(from.size());
  if (world.rank() == 0) {
    fmt::print("| bytes | operation |");
    for (const Way& way : ways) fmt::print(" {} |", way.name);
    fmt::print(" copy |\n|---|---|---|---|---|---|---|\n");
  }
  for (std::size_t table = 0; table < kTables.size(); ++table) {
    const auto bytes = static_cast<std::size_t>(kTables[table].second) * sizeof(float);
    for (const std::string which : {"push", "pull", "push+pull"}) {
      std::vector<std::vector<double>> figures(ways.size() + 1);
      for (int round = 0; round < kRounds; ++round) {
        for (std::size_t way = 0; way < ways.size(); ++way) {
          figures[way].push_back(microseconds(world, ways[way].operation(which, table), seconds));
        }
        figures.back().push_back(microseconds(
            world, [&] { std::memcpy(to.data(), from.data(), bytes); }, seconds));
      }
      if (world.rank() > 0) continue;
      fmt::print("| {} | {} |", kTables[table].first, which);
      for (const auto& figure : figures) fmt::print(" {:.4g} |", median(figure));
      fmt::print("\n");
      std::fflush(stdout);
    }
  }
}

struct Addresses {
  std::string plain;
  std::string curve;
  std::string backed;
  std::string backup;
};

void work(Communicator& world, const std::string& folder, const Addresses& servers,
          double seconds) {
  keep_freed_memory();
  std::vector<Way> ways;
  ways.emplace_back("shared memory", server::embedded(world));
  ways.emplace_back(
      "ZeroMQ", server::connect_servers({.addresses = {servers.plain}, .worker = world.rank()}));
  ways.emplace_back("ZeroMQ, CURVE",
                    server::connect_servers({.addresses = {servers.curve},
                                             .worker = world.rank(),
                                             .secret_key = folder + "/clients/worker.secret",
                                             .server_keys = {folder + "/server.key"}}));
  ways.emplace_back(
      "ZeroMQ, backup",
      server::connect_servers(
          {.addresses = {servers.backed, servers.backup}, .replicas = 1, .worker = world.rank()}));
  compare(world, ways, seconds);
}

void measure_rows(double seconds) {
  constexpr std::int64_t kWidth = 64;
  constexpr std::size_t kRows = 200'000;
  constexpr std::size_t kAtATime = 1024;
  server::Rows rows({.name = "rows", .width = kWidth, .optimizer = {.name = "adagrad"}});
  std::vector<std::uint64_t> keys(kAtATime);
  std::vector<float> gradients(kAtATime * kWidth, 0.5F);
  const CounterRandom random(1);
  std::uint64_t drawn = 0;
  const auto push = [&](std::uint64_t first, bool all) {
    for (std::uint64_t& key : keys) key = all ? first++ : random.bits(drawn++) % kRows;
    const server::RowGradients one{keys, gradients.data()};
    rows.prepare({&one, 1});
    rows.update({.lr = 0.1});
  };
  for (std::uint64_t first = 0; first < kRows; first += kAtATime) push(first, true);
  std::vector<double> rates;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    std::int64_t done = 0;
    while (seconds_since(begin) < 5 * seconds) {
      push(0, false);
      done += kAtATime;
    }
    rates.push_back(static_cast<double>(done) / seconds_since(begin));
  }
  const double needed = static_cast<double>(rows.size() * kWidth * 2 * sizeof(float));
  fmt::print(
      "\nsparse rows, {} floats, adagrad: {:.2f} million updates a second; {:.2f} times the memory "
      "of values and state\n",
      kWidth, median(rates) / 1e6, static_cast<double>(rows.bytes()) / needed);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.2;
  std::string folder = (std::filesystem::temp_directory_path() / "bench_server_XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  server::write_key_files(folder, "server", server::new_key_pair());
  server::write_key_files(folder + "/clients", "worker", server::new_key_pair());

  int addresses[2];
  int done[2];
  if (::pipe(addresses) != 0 || ::pipe(done) != 0) return 1;
  const pid_t servers = ::fork();
  if (servers == 0) {
    ::close(done[1]);
    keep_freed_memory();
    server::ZmqServer plain({.endpoint = "tcp://127.0.0.1:0", .insecure_loopback = true});
    server::ZmqServer curve({.endpoint = "tcp://127.0.0.1:0",
                             .secret_key = folder + "/server.secret",
                             .clients = folder + "/clients"});
    server::ZmqServer backup(
        {.endpoint = "tcp://127.0.0.1:0", .insecure_loopback = true, .standby = true});
    server::ZmqServer backed(
        {.endpoint = "tcp://127.0.0.1:0", .insecure_loopback = true, .replica = backup.endpoint()});
    const std::string line = fmt::format("{} {} {} {}\n", plain.endpoint(), curve.endpoint(),
                                         backed.endpoint(), backup.endpoint());
    if (::write(addresses[1], line.data(), line.size()) < 0) ::_exit(1);
    char end = 0;
    ::_exit(::read(done[0], &end, 1) < 0 ? 1 : 0);
  }
  char line[256] = {};
  if (::read(addresses[0], line, sizeof line - 1) <= 0) return 1;
  Addresses servers_at;
  std::istringstream(line) >> servers_at.plain >> servers_at.curve >> servers_at.backed >>
      servers_at.backup;

  shm::World shared = shm::World::create(kWorkers);
  std::vector<pid_t> workers;
  for (int rank = 0; rank < kWorkers; ++rank) {
    workers.push_back(::fork());
    if (workers.back() == 0) {
      ::close(done[1]);
      try {
        const auto world = shared.join(rank);
        work(*world, folder, servers_at, seconds);
      } catch (const std::exception& error) {
        fmt::print(stderr, "worker {}: {}\n", rank, error.what());
        ::_exit(1);
      }
      std::fflush(stdout);
      ::_exit(0);
    }
  }
  int status = 0;
  for (const pid_t worker : workers) ::waitpid(worker, &status, 0);
  ::close(done[1]);
  ::waitpid(servers, &status, 0);
  std::filesystem::remove_all(folder);
  measure_rows(seconds);
  return 0;
}
