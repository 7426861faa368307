#include "trireme/cli/benchmark_ranks.h"

#include <fcntl.h>
#include <sched.h>

#include "trireme/base/file_descriptor.h"
#include "trireme/base/partition.h"
#include "trireme/cli/failure_report.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/launcher.h"
#include "trireme/launch/machine.h"
#include "trireme/world/connect.h"

namespace trireme::cli {

namespace {

void pin_to(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

// Reports errors that one line explains in one line, and others in full.
void explain(const ExitReport& report) {
  const Terminal terminal = Terminal::of(STDERR_FILENO);
  const auto code = static_cast<ExitCode>(report.exit_code);
  const bool plain =
      code == ExitCode::kUsage || code == ExitCode::kData || code == ExitCode::kDiverged;
  terminal.write(plain && !report.last_lines.empty() ? "trireme: " + report.last_lines.back() + "\n"
                                                     : failure_report(report, "", terminal));
}

}  // namespace

bool is_one_of_several() {
  return read_environment().world_size > 1;
}

std::vector<int> cores_of_ranks(int ranks) {
  const std::vector<int> cores = cores_of_affinity();
  const auto count = static_cast<std::int64_t>(cores.size());
  std::vector<int> chosen;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t place = ranks <= count ? partition(count, ranks, rank).begin : rank % count;
    chosen.push_back(cores[static_cast<std::size_t>(place)]);
  }
  return chosen;
}

int run_ranks(int ranks, Binding binding, const BenchmarkMain& main) {
  if (is_one_of_several()) {
    const RankEnvironment environment = read_environment();
    ConnectOptions options;
    if (environment.local_rank == 0) {
      options.on_notice = [](const std::string& text) {
        Terminal::of(STDERR_FILENO).write("trireme: bench: " + text + "\n");
      };
    }
    return main(*connect(environment, options));
  }
  const std::vector<int> cores = cores_of_ranks(ranks);
  LaunchOptions options;
  options.ranks = ranks;
  options.pin_to_cores = binding == Binding::kShare;
  // The errors of ranks are written by explain(), once.
  const FileDescriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  options.stderr_fd = nowhere.fd();
  const ExitReport report = launch(options, [&](int rank, int world_fd) {
    if (binding == Binding::kCore) pin_to(cores[static_cast<std::size_t>(rank)]);
    const auto world = shm::World::open(world_fd).join(rank);
    carry_devices(*world);
    return main(*world);
  });
  if (report.failed_rank >= 0) explain(report);
  return report.exit_code;
}

}  // namespace trireme::cli
