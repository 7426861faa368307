#include "trireme/bench/peer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/base/output_file.h"
#include "trireme/base/text.h"
#include "trireme/launch/search_path.h"

namespace trireme::bench {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr double kStartSeconds = 30;
constexpr double kLongestBatchSeconds = 120;
constexpr auto kFarewell = std::chrono::seconds(3);

constexpr std::array kPeers = {PeerKind::kOpenMpi, PeerKind::kMpich, PeerKind::kGloo};

bool is_mpi(PeerKind kind) {
  return kind != PeerKind::kGloo;
}

std::string program_of(PeerKind kind) {
  return is_mpi(kind) ? fmt::format("mpi_peer.{}", name_of(kind)) : "gloo_peer";
}

std::string mpirun_of(PeerKind kind) {
  return fmt::format("mpirun.{}", name_of(kind));
}

std::string_view packages_of(PeerKind kind) {
  switch (kind) {
    case PeerKind::kOpenMpi:
      return "openmpi-bin libopenmpi-dev";
    case PeerKind::kMpich:
      return "mpich libmpich-dev";
    case PeerKind::kGloo:
      return "libtorch-dev";
  }
  return "";
}

bool is_executable(const std::filesystem::path& path) {
  return ::access(path.c_str(), X_OK) == 0;
}

std::filesystem::path program_in(const std::filesystem::path& folder, PeerKind kind) {
  if (is_mpi(kind) && find_program(mpirun_of(kind)).empty()) {
    throw UsageError(fmt::format("bench: --against {} needs {} in PATH; apt-get install {}",
                                 name_of(kind), mpirun_of(kind), packages_of(kind)));
  }
  std::filesystem::path program = folder / program_of(kind);
  if (!is_executable(program)) {
    throw UsageError(fmt::format(
        "bench: --against {} needs the program {}, which is built where CMake finds the library; "
        "apt-get install {} and build trireme again, or name its folder by --peers",
        name_of(kind), program.string(), packages_of(kind)));
  }
  return program;
}

// One a call of posix_spawn; for Gloo, which has no launcher, one a rank.
std::vector<std::vector<std::string>> commands_of(PeerKind kind,
                                                  const std::filesystem::path& folder,
                                                  const PeerRanks::Options& options) {
  const std::string program = program_in(options.programs, kind).string();
  const std::string cores = fmt::format("{}", fmt::join(options.cores, ","));
  const std::string ranks = std::to_string(options.ranks);
  std::vector<std::vector<std::string>> commands;
  switch (kind) {
    case PeerKind::kOpenMpi: {
      // The ranks bind themselves, and Open MPI does not know to which cores. So it is told that
      // they must yield if several share a core, as it would do by itself.
      const std::set<int> cores_in_use(options.cores.begin(), options.cores.end());
      const bool shared = options.ranks > static_cast<int>(cores_in_use.size());
      std::vector<std::string> command = {
          mpirun_of(kind), "--oversubscribe",     "--bind-to",       "none",
          "--mca",         "mpi_yield_when_idle", shared ? "1" : "0"};
      if (::geteuid() == 0) command.emplace_back("--allow-run-as-root");
      command.insert(command.end(), {"-n", ranks, program, folder.string(), cores});
      commands.push_back(std::move(command));
      break;
    }
    case PeerKind::kMpich:
      commands.push_back({mpirun_of(kind), "-n", ranks, program, folder.string(), cores});
      break;
    case PeerKind::kGloo:
      for (int rank = 0; rank < options.ranks; ++rank) {
        commands.push_back({program, folder.string(), cores, std::to_string(rank), ranks});
      }
      break;
  }
  return commands;
}

std::filesystem::path temporary_folder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "trireme-peers-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    throw DataError(fmt::format("{}: {}", pattern, std::strerror(errno)));
  }
  return pattern;
}

FileDescriptor make_pipe(const std::filesystem::path& path, int flags) {
  if (::mkfifo(path.c_str(), 0600) != 0) {
    throw DataError(fmt::format("{}: {}", path.string(), std::strerror(errno)));
  }
  return FileDescriptor(::open(path.c_str(), flags | O_CLOEXEC));
}

std::string contents(int fd) {
  std::string text(4096, '\0');
  const ssize_t bytes = ::pread(fd, text.data(), text.size(), 0);
  text.resize(bytes < 0 ? 0 : static_cast<std::size_t>(bytes));
  return text;
}

// Returns the first line with a reason; the following lines mostly repeat it.
std::string first_words(const std::string& text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    if (std::ranges::any_of(line, [](unsigned char c) { return std::isalnum(c) != 0; })) {
      return std::string(line);
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return "";
}

}  // namespace

std::string_view name_of(PeerKind kind) {
  switch (kind) {
    case PeerKind::kOpenMpi:
      return "openmpi";
    case PeerKind::kMpich:
      return "mpich";
    case PeerKind::kGloo:
      return "gloo";
  }
  return "?";
}

std::vector<PeerKind> peers_named(std::string_view text) {
  std::vector<PeerKind> kinds;
  for (;;) {
    const std::size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    std::vector<std::string> names;
    const auto* found =
        std::ranges::find(kPeers, word, [](PeerKind kind) { return name_of(kind); });
    if (found == kPeers.end()) {
      for (const PeerKind kind : kPeers) names.emplace_back(name_of(kind));
      const std::string guess = nearest(word, names);
      throw UsageError(
          fmt::format("bench: --against must name openmpi, mpich or gloo, got \"{}\"{}", word,
                      guess.empty() ? std::string() : fmt::format("; did you mean {}?", guess)));
    }
    if (std::ranges::count(kinds, *found) == 0) kinds.push_back(*found);
    if (comma == std::string_view::npos) return kinds;
    text.remove_prefix(comma + 1);
  }
}

void require_able(PeerKind kind, Collective collective, DType dtype) {
  if (kind == PeerKind::kGloo && collective == Collective::kReduceScatter) {
    throw UsageError("bench: libtorch's Gloo has no reduce-scatter to measure against");
  }
  const bool lacks_sum = dtype == DType::kBF16 || (is_mpi(kind) && dtype == DType::kF16);
  if (reduces(collective) && lacks_sum) {
    throw UsageError(
        fmt::format("bench: {} has no sum of {} to measure against; --dtype f32 has one",
                    name_of(kind), trireme::name_of(dtype)));
  }
}

PeerRanks::PeerRanks(PeerKind kind, const Options& options)
    : kind_(kind), folder_(temporary_folder()) {
  try {
    const auto commands = commands_of(kind, folder_, options);
    output_ = open_output_file("peer");
    open_pipes(options.ranks);
    for (const auto& command : commands) start(command);
    await_answers(kStartSeconds);
  } catch (...) {
    end();
    throw;
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

PeerRanks::~PeerRanks() {
  end();
}

void PeerRanks::open_pipes(int ranks) {
  answers_ = make_pipe(folder_ / "answers", O_RDONLY | O_NONBLOCK);
  for (int rank = 0; rank < ranks; ++rank) {
    // Opened for reading too, because open() would otherwise wait for the peer.
    requests_.push_back(make_pipe(folder_ / fmt::format("rank-{}", rank), O_RDWR));
  }
}

void PeerRanks::start(const std::vector<std::string>& command) {
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&files, output_.fd(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&files, output_.fd(), STDERR_FILENO);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, words[0], &files, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) fail(fmt::format("cannot start {}: {}", command[0], std::strerror(error)));
  processes_.push_back(pid);
}

double PeerRanks::batch(const Request& request, int calls) {
  const std::string line = fmt::format("{} {} {} {}\n", name_of(request.collective),
                                       request.shape.count, trireme::name_of(request.dtype), calls);
  for (const FileDescriptor& pipe : requests_) {
    if (::write(pipe.fd(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      fail(std::strerror(errno));
    }
  }
  return await_answers(kLongestBatchSeconds);
}

// Reads one line of every rank, the seconds of a call there, and returns the largest.
double PeerRanks::await_answers(double limit_seconds) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(limit_seconds);
  double slowest = 0;
  for (std::size_t came = 0; came < requests_.size();) {
    if (Clock::now() > deadline) fail(fmt::format("no answer within {} seconds", limit_seconds));
    pollfd polled{answers_.fd(), POLLIN, 0};
    ::poll(&polled, 1, 100);
    char bytes[512];
    const ssize_t got = ::read(answers_.fd(), bytes, sizeof bytes);
    if (got <= 0) {
      if ((polled.revents & POLLHUP) != 0 || all_ended()) fail("its ranks have ended");
      continue;
    }
    partial_.append(bytes, static_cast<std::size_t>(got));
    for (std::size_t end; (end = partial_.find('\n')) != std::string::npos; ++came) {
      slowest = std::max(slowest, std::strtod(partial_.c_str(), nullptr));
      partial_.erase(0, end + 1);
    }
  }
  return slowest;
}

// Of the processes that are children of this one: none is in a rank that was forked later.
bool PeerRanks::all_ended() {
  siginfo_t info{};
  return !processes_.empty() && std::ranges::all_of(processes_, [&](pid_t pid) {
    info.si_pid = 0;
    return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == pid;
  });
}

void PeerRanks::end() {
  requests_.clear();
  answers_.close();
  const auto deadline = Clock::now() + kFarewell;
  while (!processes_.empty()) {
    const bool overdue = Clock::now() > deadline;
    std::erase_if(processes_, [&](pid_t pid) {
      if (overdue) ::kill(pid, SIGKILL);
      const pid_t reaped = ::waitpid(pid, nullptr, overdue ? 0 : WNOHANG);
      return reaped == pid || (reaped < 0 && errno == ECHILD);
    });
    if (!processes_.empty()) std::this_thread::sleep_for(milliseconds(5));
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void PeerRanks::fail(const std::string& what) {
  const std::string words = output_.is_open() ? first_words(contents(output_.fd())) : "";
  throw CommError(fmt::format("bench: {}: {}{}", name_of(kind_), what,
                              words.empty() ? "" : "; it said: " + words));
}

}  // namespace trireme::bench
