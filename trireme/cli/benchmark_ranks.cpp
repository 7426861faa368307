#include "trireme/cli/benchmark_ranks.h"

#include <fcntl.h>

#include "trireme/base/file_descriptor.h"
#include "trireme/cli/failure_report.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/exit_codes.h"
#include "trireme/launch/launcher.h"
#include "trireme/launch/machine.h"
#include "trireme/world/connect.h"

namespace trireme::cli {

namespace {

int run_bound(Communicator& world, Binding binding, const BenchmarkMain& main) {
  const CoreShare share = share_cores(world);
  if (binding == Binding::kCore) run_on_cores({share.cores.data(), 1});
  if (binding == Binding::kShare && share.is_own) run_on_cores(share.cores);
  return main(world, share);
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
  std::vector<int> cores;
  for (int rank = 0; rank < ranks; ++rank) cores.push_back(share_of(ranks, rank).cores.front());
  return cores;
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
    return run_bound(*connect(environment, options), binding, main);
  }
  LaunchOptions options;
  options.ranks = ranks;
  // The errors of ranks are written by explain(), once.
  const FileDescriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  options.stderr_fd = nowhere.fd();
  const ExitReport report = launch(options, [&](int rank, int world_fd) {
    const auto world = shm::World::open(world_fd).join(rank);
    carry_devices(*world);
    return run_bound(*world, binding, main);
  });
  if (report.failed_rank >= 0) explain(report);
  return report.exit_code;
}

}  // namespace trireme::cli
