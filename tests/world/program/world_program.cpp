// A program as a user would write it: it connects its ranks under any launcher and executes its
// arguments.
//
//   world_program [--backend B] [--timeout MS] sum
//   world_program ... late RANK MS       rank RANK calls a collective this much later
//   world_program ... mismatch RANK      rank RANK calls it with another count
//   world_program ... repeat MS          collectives, one after another, for this time
//   world_program ... bandwidth MIB N    the fastest of N all-reduces
//
// Each rank prints one line, "rank 1 of 4: ...", and exits with a code of exit_codes.h.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/world/program/contributions.h"
#include "trireme/base/error.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/world/connect.h"

namespace {

using namespace trireme;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// In one write: ranks share a file.
void say_line(const std::string& text) {
  const std::string line = text + "\n";
  if (write(STDOUT_FILENO, line.data(), line.size()) < 0) std::abort();
}

void say(const Communicator& world, const std::string& text) {
  say_line(fmt::format("rank {} of {}: {}", world.rank(), world.size(), text));
}

Buffer buffer(std::vector<float>& values) {
  return {values.data(), static_cast<std::int64_t>(values.size()), DType::kF32};
}

// Rank r contributes as virtual worker r.
std::uint64_t sum_of_ranks(Communicator& world) {
  std::vector<float> values = test::sum_of_contributions(world.rank(), 1);
  world.all_reduce(buffer(values)).wait();
  return test::checksum(values);
}

// Every rank contributes the nodes of its virtual workers.
std::uint64_t sum_of_virtual_workers(Communicator& world) {
  const ReductionTree tree(test::kVirtualWorkers, world.size());
  std::vector<float> rows;
  for (const ReductionTree::Node& node : tree.nodes_of(world.rank())) {
    const auto first = static_cast<int>(node.index << node.level);
    const std::vector<float> row = test::sum_of_contributions(first, 1 << node.level);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  world.all_reduce(buffer(rows), tree).wait();
  rows.resize(test::kElements);
  return test::checksum(rows);
}

void sum(Communicator& world) {
  const std::uint64_t of_ranks = sum_of_ranks(world);
  say(world, fmt::format("{}; sum of ranks {:016x}, of virtual workers {:016x}",
                         world.description(), of_ranks, sum_of_virtual_workers(world)));
}

void come_late(Communicator& world, int rank, milliseconds time) {
  world.barrier();
  if (world.rank() == rank) std::this_thread::sleep_for(time);
  sum(world);
}

void mismatch(Communicator& world, int rank) {
  std::vector<float> values(world.rank() == rank ? 5000 : 4096);
  world.all_reduce(buffer(values)).wait();
}

// Until rank 0 finds that the time is over. Every sum is checked.
void repeat(Communicator& world, milliseconds time) {
  const Clock::time_point end = Clock::now() + time;
  std::vector<float> values(std::size_t{1} << 20);
  for (int round = 0;; ++round) {
    const bool over = world.rank() == 0 && Clock::now() >= end;
    std::fill(values.begin(), values.end(), static_cast<float>(world.rank() + 1));
    values[0] = over ? 1 : 0;
    world.all_reduce(buffer(values)).wait();
    const auto expected = static_cast<float>(world.size() * (world.size() + 1) / 2);
    if (!std::all_of(values.begin() + 1, values.end(), [&](float x) { return x == expected; })) {
      throw std::runtime_error(fmt::format("wrong sum in round {}", round));
    }
    if (values[0] > 0) return say(world, "all sums were right");
    if (round == 2) say(world, "repeating");
  }
}

void bandwidth(Communicator& world, std::int64_t mebibytes, int rounds) {
  const std::size_t bytes = static_cast<std::size_t>(mebibytes) << 20;
  const Memory memory = world.allocate(bytes);
  const Buffer x{memory.data(), static_cast<std::int64_t>(bytes / 4), DType::kF32};
  std::fill_n(x.as<float>(), x.count, 1.0f);
  std::vector<double> seconds;
  for (int round = 0; round < rounds; ++round) {
    world.barrier();
    const Clock::time_point begin = Clock::now();
    world.all_reduce(x, ReduceOp::kMean).wait();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  say(world, fmt::format("{}; {} MiB in {:.3f} s, {:.3f} s at best", world.description(), mebibytes,
                         seconds[seconds.size() / 2], seconds.front()));
}

class Arguments {
 public:
  Arguments(int argc, char** argv) : words_(argv + 1, argv + argc) {}

  std::string option(const std::string& name, const std::string& usual) {
    const auto found = std::find(words_.begin(), words_.end(), name);
    if (found == words_.end() || found + 1 == words_.end()) return usual;
    const std::string value = found[1];
    words_.erase(found, found + 2);
    return value;
  }

  std::string word(std::size_t index) const {
    if (index < words_.size()) return words_[index];
    throw UsageError("world_program: an argument is missing; its source says which there are");
  }
  int number(std::size_t index) const { return std::stoi(word(index)); }

 private:
  std::vector<std::string> words_;
};

void run(Arguments arguments) {
  ConnectOptions options;
  options.backend = arguments.option("--backend", options.backend);
  options.timeout = milliseconds(std::stoll(arguments.option("--timeout", "60000")));
  options.heartbeat_timeout =
      milliseconds(std::stoll(arguments.option("--heartbeat-timeout", "30000")));
  const auto world = connect(options);
  const std::string task = arguments.word(0);
  if (task == "sum") return sum(*world);
  if (task == "late") {
    return come_late(*world, arguments.number(1), milliseconds(arguments.number(2)));
  }
  if (task == "mismatch") return mismatch(*world, arguments.number(1));
  if (task == "repeat") return repeat(*world, milliseconds(arguments.number(1)));
  if (task == "bandwidth") return bandwidth(*world, arguments.number(1), arguments.number(2));
  throw UsageError("world_program: no task \"" + task + "\"");
}

std::string kind_of(const std::exception& error) {
  if (dynamic_cast<const UsageError*>(&error) != nullptr) return "UsageError";
  if (dynamic_cast<const CommError*>(&error) != nullptr) return "CommError";
  return "error";
}

int rank_of_this_process() {
  try {
    return read_environment().rank;
  } catch (const UsageError&) {
    return -1;
  }
}

}  // namespace

// AddressSanitizer must not report memory that a failed world keeps until the process ends.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0";
}

int main(int argc, char** argv) {
  try {
    run(Arguments(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    say_line(fmt::format("rank {}: {}: {}", rank_of_this_process(), kind_of(error), error.what()));
    return static_cast<int>(exit_code_of(error));
  }
}
