#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/bench/measure.h"
#include "trireme/bench/report.h"
#include "trireme/bench/sizes.h"
#include "trireme/cli/bench_memory_command.h"
#include "trireme/cli/bench_train_command.h"
#include "trireme/cli/benchmark_ranks.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/terminal.h"
#include "trireme/comm/nccl/nccl.h"
#include "trireme/launch/environment.h"

namespace trireme::cli {

namespace {

constexpr const char* kDefaultSizes = "4,1Ki,64Ki,1Mi,16Mi,64Mi";

struct BenchArguments {
  std::string operation;
  int ranks = 0;
  std::string sizes;
  std::string min, max;
  std::int64_t factor = 0;
  std::string dtype = "f32";
  std::string memory = "allocated";
  double seconds = 0.5;
  std::string against;
  std::filesystem::path peers;
  bool json = false;
  std::filesystem::path plot;
};

// The benchmark that the command line asks for, checked.
struct Job {
  bench::Plan plan;
  int ranks = 1;
  std::vector<bench::PeerKind> against;
  std::vector<bench::LeftOut> left_out;  // of --against
  Machine machine;                       // read before this process is bound to a part of it
};

std::vector<std::int64_t> sizes_of(const BenchArguments& arguments) {
  const bool range = !arguments.min.empty() || !arguments.max.empty() || arguments.factor != 0;
  if (!range) {
    return bench::parse_sizes(arguments.sizes.empty() ? kDefaultSizes : arguments.sizes);
  }
  if (!arguments.sizes.empty()) {
    throw UsageError("bench: --sizes and --min, --max, --factor exclude each other: name one");
  }
  return bench::sizes_between(bench::parse_size(arguments.min.empty() ? "4" : arguments.min),
                              bench::parse_size(arguments.max.empty() ? "64Mi" : arguments.max),
                              arguments.factor == 0 ? 2 : arguments.factor);
}

std::vector<bench::Place> places_named(const std::string& name) {
  using enum bench::Place;
  if (name == "allocated") return {kAllocated};
  if (name == "heap") return {kHeap};
  if (name == "both") return {kAllocated, kHeap};
  if (name == "device") return {kDevice};
  throw UsageError(
      fmt::format("bench: --memory must be allocated, heap, both or device, got \"{}\"", name));
}

void require_memory(const Job& job) {
  const std::int64_t largest = *std::ranges::max_element(job.plan.sizes);
  const auto peers = static_cast<std::int64_t>(job.against.size());
  const auto bytes =
      static_cast<double>(bench::memory_of(job.plan, largest) + 2 * peers * largest) * job.ranks;
  const auto there = static_cast<double>(job.machine.available_memory_bytes);
  if (bytes <= there) return;
  throw UsageError(
      fmt::format("bench: {} ranks need {} of memory for a size of {}, {} are "
                  "available; choose smaller sizes or fewer ranks",
                  job.ranks, memory_size(bytes), bench::short_size(largest), memory_size(there)));
}

// Checks the output file first, so that no measurement is lost.
void require_writable(const std::filesystem::path& path) {
  if (path.empty()) return;
  std::filesystem::path folder = path.parent_path();
  if (folder.empty()) folder = ".";
  std::error_code ignored;
  std::string probe = (folder / ".trireme-XXXXXX").string();
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  const int fd = is_folder ? -1 : ::mkstemp(probe.data());
  if (fd < 0) {
    throw UsageError(fmt::format("bench: --plot must name a file that can be written, got {}: {}",
                                 path.string(), std::strerror(is_folder ? EISDIR : errno)));
  }
  ::close(fd);
  ::unlink(probe.c_str());
}

// Keeps the peers for which `part` does not throw. Throws if that is none of them.
void keep_able(Job& job, const std::function<void(bench::PeerKind)>& part) {
  std::vector<bench::PeerKind> able;
  for (const bench::PeerKind peer : job.against) {
    try {
      part(peer);
      able.push_back(peer);
    } catch (const Error& error) {
      if (job.against.size() == 1 && job.left_out.empty()) throw;
      job.left_out.push_back({std::string(name_of(peer)), error.what()});
    }
  }
  job.against = std::move(able);
  if (!job.against.empty() || job.left_out.empty()) return;
  std::vector<std::string> reasons;
  for (const bench::LeftOut& one : job.left_out) reasons.push_back(one.reason);
  throw UsageError(fmt::format("{}", fmt::join(reasons, "; ")));
}

Job job_of(const BenchArguments& arguments) {
  Job job;
  job.machine = inspect_machine();
  job.plan.collective = bench::collective_named(arguments.operation);
  job.plan.dtype = bench::dtype_named(arguments.dtype);
  job.plan.places = places_named(arguments.memory);
  job.plan.sizes = sizes_of(arguments);
  job.plan.seconds = arguments.seconds;
  job.ranks = arguments.ranks > 0 ? arguments.ranks : usable_cores();
  if (!arguments.against.empty()) job.against = bench::peers_named(arguments.against);
  keep_able(job, [&](bench::PeerKind peer) {
    bench::require_able(peer, job.plan.collective, job.plan.dtype);
  });
  if (!job.against.empty() && job.plan.places.front() == bench::Place::kDevice) {
    throw UsageError(
        "bench: --against has peers for the memory of processes only, not for devices");
  }
  require_writable(arguments.plot);
  if (is_one_of_several()) {
    if (arguments.ranks > 0) {
      throw UsageError("bench: -n is for ranks of our own; here another launcher has started them");
    }
    if (!job.against.empty()) {
      throw UsageError(
          "bench: --against starts the peer's ranks beside ours on this host; call trireme bench "
          "without another launcher");
    }
  } else {
    require_memory(job);
  }
  return job;
}

// It is beside the program in the build tree, and in libexec once installed.
std::filesystem::path folder_of_peers(const std::filesystem::path& asked) {
  if (!asked.empty()) return std::filesystem::absolute(asked);
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  if (std::filesystem::is_directory(here / "peers")) return here / "peers";
  return (here / TRIREME_LIBEXEC_FROM_BIN / "trireme").lexically_normal();
}

std::vector<std::unique_ptr<bench::PeerRanks>> start_peers(Job& job,
                                                           const std::filesystem::path& folder) {
  std::vector<std::unique_ptr<bench::PeerRanks>> peers;
  keep_able(job, [&](bench::PeerKind kind) {
    peers.push_back(std::make_unique<bench::PeerRanks>(
        kind, bench::PeerRanks::Options{folder, job.ranks, cores_of_ranks(job.ranks)}));
  });
  for (const bench::LeftOut& one : job.left_out) {
    std::cerr << fmt::format("trireme: not against {}: {}\n", one.peer, one.reason);
  }
  return peers;
}

// Takes the device with this rank's number on its host, or device 0 if only one is visible.
void choose_device(const Communicator& world) {
  const int local = is_one_of_several() ? read_environment().local_rank : world.rank();
  nccl::use_device(nccl::device_count() == 1 ? 0 : local);
}

int run_rank(const BenchArguments& arguments, const Job& job, Communicator& world,
             const std::vector<std::unique_ptr<bench::PeerRanks>>& started) {
  if (job.plan.places.front() == bench::Place::kDevice) choose_device(world);
  const bool first = world.rank() == 0;
  const bool table = first && !arguments.json;
  bench::Session session{.ranks = world.size(), .backend = world.description()};
  session.date = bench::date_now();
  session.machine = job.machine;
  session.left_out = job.left_out;
  std::vector<bench::PeerRanks*> peers;
  for (const auto& peer : started) peers.push_back(peer.get());

  if (table) std::cout << bench::table_head(session, job.plan, job.against) << std::flush;
  std::vector<bench::Row> rows;
  std::int64_t wrong = 0;
  for (const std::int64_t bytes : job.plan.sizes) {
    rows.push_back(bench::measure(world, job.plan, bytes, peers));
    wrong += rows.back().wrong;
    if (table) std::cout << bench::table_line(job.plan, rows.back()) << std::flush;
  }
  if (!first) return 0;
  if (arguments.json) std::cout << bench::json_of(session, job.plan, rows) << std::flush;
  if (!arguments.plot.empty()) {
    write_file_atomically(arguments.plot, bench::svg_of(session, job.plan, rows));
  }
  if (wrong > 0) throw Error(fmt::format("bench: {} elements came out wrong", wrong));
  return 0;
}

int run(const BenchArguments& arguments) {
  if (arguments.operation.empty()) {
    throw UsageError(fmt::format("bench: an operation is missing: {}, train or memory",
                                 fmt::join(bench::collective_names(), ", ")));
  }
  Job job = job_of(arguments);
  const auto peers = start_peers(job, folder_of_peers(arguments.peers));
  return run_ranks(job.ranks, Binding::kCore, [&](Communicator& world, const CoreShare&) {
    return run_rank(arguments, job, world, peers);
  });
}

void add_options(CLI::App& command, BenchArguments& arguments) {
  command.add_option("operation", arguments.operation,
                     "all-reduce, all-gather, reduce-scatter, broadcast, all-to-all or send");
  command.add_option("-n,--ranks", arguments.ranks, "how many ranks (default: one a core)")
      ->check(CLI::Range(1, 256));
  command.add_option("--sizes", arguments.sizes,
                     std::string("bytes, such as the default ") + kDefaultSizes);
  command.add_option("-b,--min", arguments.min, "the smallest size, instead of --sizes");
  command.add_option("-e,--max", arguments.max, "the largest size");
  command.add_option("-f,--factor", arguments.factor, "from one size to the next (default: 2)")
      ->check(CLI::Range(2, 1 << 20));
  command.add_option("-d,--dtype", arguments.dtype, "f32, f64, f16, bf16, i32, i64 or u8");
  command.add_option("--memory", arguments.memory,
                     "allocated (the communicator's own, zero-copy), heap (any), both of them, or "
                     "device (a CUDA device a rank)");
  command.add_option("--seconds", arguments.seconds, "for each size, all contenders together")
      ->check(CLI::Range(0.001, 3600.0));
  command.add_option(
      "--against", arguments.against,
      "openmpi, mpich or gloo, or some of them, in turn with ours; those that are not "
      "there or lack the operation are named and left out");
  command.add_option("--peers", arguments.peers, "the folder of the programs that --against runs")
      ->envname("TRIREME_PEERS");
  command.add_flag("--json", arguments.json, "print one JSON object instead of the table");
  command.add_option("--plot", arguments.plot, "write time over size as an SVG file");
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App* command = app.add_subcommand(
      "bench", "Measure communication, or where the time and the memory of a training step go");
  add_options(*command, *arguments);
  CLI::App* train = add_bench_train(*command, exit_code);
  CLI::App* memory = add_bench_memory(*command, exit_code);
  command->footer(
      "    trireme bench all-reduce -n 2 --against openmpi,mpich --plot all-reduce.svg\n"
      "    trireme bench train run.toml -n 2 optimizer.lr=3e-4\n"
      "    trireme bench memory run.toml -n 2 parallelism.recompute=full\n"
      "Columns as nccl-tests print them; \"copy\": the ranks each copying the same bytes at once,\n"
      "the limit. Under mpirun, torchrun or `trireme run` it measures their ranks.\n"
      "docs/benchmarking.md says how to measure fairly.");
  command->callback([arguments, train, memory, &exit_code] {
    if (!train->parsed() && !memory->parsed()) exit_code = run(*arguments);
  });
}

}  // namespace trireme::cli
