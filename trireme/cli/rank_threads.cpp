#include "trireme/cli/rank_threads.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "trireme/launch/machine.h"

namespace trireme::cli {

namespace {

constexpr const char* kThreads = "training.threads";
constexpr const char* kGiven = "virtual workers are given";

bool is_set_now(const Config& config, const std::string& key) {
  const auto origin = config.origins.find(key);
  return origin != config.origins.end() &&
         origin->second.source != Config::Origin::Source::kRunDirectory;
}

std::string counted(int count, const std::string& noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

// What a number of threads that is not the cores' own costs.
std::string cost_of(const Config& config, const ThreadChoice& choice, const CoreShare& share) {
  const int threads = choice.threads;
  const auto own = static_cast<int>(share.cores.size());
  if (share.is_own && threads > own) {
    return fmt::format("; more than the {} that the rank may use", counted(own, "core"));
  }
  if (threads > 1 && threads * share.ranks_of_host > share.cores_of_host) {
    return fmt::format("; {} on {}", counted(threads * share.ranks_of_host, "thread"),
                       counted(share.cores_of_host, "core"));
  }
  const int idle = share.cores_of_host - threads * share.ranks_of_host;
  if (idle <= 0) return "";
  const std::string text = fmt::format("; {} of {} stay{} idle", idle,
                                       counted(share.cores_of_host, "core"), idle == 1 ? "s" : "");
  if (choice.reason != kGiven) return text;
  return text + (config.training.virtual_workers > share.ranks_of_host
                     ? ": more ranks would use them, with the same bits"
                     : fmt::format(": {} would use them, with other bits", kThreads));
}

}  // namespace

std::optional<ThreadChoice> decided_threads(const Config& config,
                                            const RankEnvironment& environment) {
  const Config::Training& training = config.training;
  if (training.threads > 0) return ThreadChoice{static_cast<int>(training.threads), kThreads};
  if (training.virtual_workers > 0) return ThreadChoice{1, kGiven};
  return threads_of_environment(environment, static_cast<int>(cores_of_affinity().size()));
}

ThreadChoice threads_of_share(const CoreShare& share) {
  return {share.threads, fmt::format("{} for {}", counted(share.cores_of_host, "core"),
                                     counted(share.ranks_of_host, "rank"))};
}

CoreShare presumed_share(const RankEnvironment& environment, int ranks) {
  CoreShare share = share_of(ranks, std::min(environment.local_rank, ranks - 1));
  if (environment.starter == Starter::kNone || environment.world_fd) return share;
  const auto own = static_cast<int>(cores_of_affinity().size());
  const auto of_launcher = static_cast<int>(cores_of_affinity(::getppid()).size());
  if (own >= of_launcher) return share;
  return {.cores = cores_of_affinity(),
          .threads = own,
          .ranks_of_host = ranks,
          .cores_of_host = std::min(of_launcher, own * ranks)};
}

int cores_withheld_by_launcher(const RankEnvironment& environment, const CoreShare& share) {
  if (environment.starter == Starter::kNone || environment.world_fd) return 0;
  const auto of_launcher = std::ssize(cores_of_affinity(::getppid()));
  return std::max(0, static_cast<int>(of_launcher) - share.cores_of_host);
}

std::string line_on_threads(const Config& config, const ThreadChoice& choice,
                            const CoreShare& share, int withheld) {
  std::string line = fmt::format("{} a rank ({}){}", choice.threads, choice.reason,
                                 cost_of(config, choice, share));
  if (choice.threads > 1 && choice.reason == kThreads && is_set_now(config, kThreads) &&
      is_set_now(config, "training.virtual_workers")) {
    line += fmt::format("; the bits may be others than with {} = 1", kThreads);
  }
  if (withheld > 0) {
    line += fmt::format(
        "; the launcher has bound the ranks of this host to {}, and may use {} more (mpirun: "
        "--bind-to none)",
        counted(share.cores_of_host, "core"), withheld);
  }
  return line;
}

}  // namespace trireme::cli
