#include "trireme/launch/threads.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "trireme/base/error.h"

namespace trireme {

namespace {

std::optional<std::string> value_of(const char* name, const Lookup& lookup) {
  const auto text = lookup(name);
  return text && text->find_first_not_of(" \t") != std::string::npos ? text : std::nullopt;
}

// OpenMP reads a list, "4,2", as the threads of each level of nested regions, and allows blanks.
std::optional<int> first_number(const char* name, const Lookup& lookup) {
  const auto text = value_of(name, lookup);
  if (!text) return std::nullopt;
  const char* begin = text->data() + text->find_first_not_of(" \t");
  const char* end = text->data() + text->size();
  int value = 0;
  const auto [stop, error] = std::from_chars(begin, end, value);
  const char* rest = std::find_if_not(stop, end, [](char c) { return c == ' ' || c == '\t'; });
  if (error == std::errc() && value >= 1 && (rest == end || *rest == ',')) return value;
  throw UsageError(
      fmt::format("environment: {} must be a number of threads of at least 1, got \"{}\"; unset "
                  "it, or set training.threads",
                  name, *text));
}

// Not those of an mpirun in a batch script or an allocation, which may start others.
bool are_tasks_of_slurm(const RankEnvironment& environment, const Lookup& lookup) {
  if (environment.starter == Starter::kNone || !lookup("SLURM_STEP_NODELIST")) return false;
  auto tasks = value_of("SLURM_STEP_NUM_TASKS", lookup);
  if (!tasks) tasks = value_of("SLURM_NTASKS", lookup);
  return tasks == std::to_string(environment.world_size);
}

}  // namespace

std::optional<ThreadChoice> threads_of_environment(const RankEnvironment& environment, int cores,
                                                   const Lookup& lookup) {
  constexpr const char* kOpenMp = "OMP_NUM_THREADS";
  constexpr const char* kSlurm = "SLURM_CPUS_PER_TASK";
  if (const auto threads = first_number(kOpenMp, lookup)) {
    return ThreadChoice{*threads, fmt::format("{} = {}", kOpenMp, *threads)};
  }
  if (!are_tasks_of_slurm(environment, lookup)) return std::nullopt;
  const auto given = first_number(kSlurm, lookup);
  if (!given) return std::nullopt;
  ThreadChoice choice{std::min(*given, cores), fmt::format("{} = {}", kSlurm, *given)};
  if (*given > cores) {
    choice.reason += fmt::format(", and the rank may use {} core{}", cores, cores == 1 ? "" : "s");
  }
  return choice;
}

}  // namespace trireme
