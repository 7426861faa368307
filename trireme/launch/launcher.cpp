#include "trireme/launch/launcher.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/base/partition.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/rank_output.h"
#include "trireme/launch/rank_process.h"

namespace trireme {
namespace {

bool is_ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// Turns the signals that the launcher handles into reads of a file descriptor, until destroyed.
class SignalQueue {
 public:
  SignalQueue() {
    sigset_t ours;
    sigemptyset(&ours);
    // SIGPIPE is read and dropped: a closed output pipe is no reason to stop. So is SIGTTOU: with
    // `stty tostop`, writing would stop the launcher and not the ranks.
    for (const int signal : {SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGPIPE, SIGTTOU}) {
      sigaddset(&ours, signal);
    }
    // nohup ignores SIGHUP, a program without job control may ignore SIGTSTP.
    for (const int signal : {SIGHUP, SIGTSTP}) {
      if (!is_ignored(signal)) sigaddset(&ours, signal);
    }
    ::pthread_sigmask(SIG_BLOCK, &ours, &mask_before_);
    queue_ = FileDescriptor(::signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~SignalQueue() {
    while (next() != 0) {
    }
    ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  }
  SignalQueue(const SignalQueue&) = delete;
  SignalQueue& operator=(const SignalQueue&) = delete;

  int fd() const { return queue_.fd(); }
  const sigset_t& mask_before() const { return mask_before_; }

  // The next signal that came, or 0.
  int next() const {
    signalfd_siginfo info;
    const bool came = ::read(queue_.fd(), &info, sizeof info) == sizeof info;
    return came ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  sigset_t mask_before_;
  FileDescriptor queue_;
};

// A port that is free now, for programs that set up connections of their own.
int free_port() {
  constexpr int kUsualPort = 29500;
  FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (!socket.is_open() || ::bind(socket.fd(), generic, size) != 0 ||
      ::getsockname(socket.fd(), generic, &size) != 0) {
    return kUsualPort;
  }
  return ntohs(address.sin_port);
}

int first_rank_of(const LaunchOptions& options) {
  return options.hosts.index * options.ranks;
}

// `hosts`: with the address at which the ranks meet. `rank`: on this host.
std::map<std::string, std::string> environment_of(int rank, const LaunchOptions& options,
                                                  const HostsOptions& hosts, int world_fd) {
  const int ranks = options.ranks;
  std::map<std::string, std::string> set = {{"RANK", std::to_string(first_rank_of(options) + rank)},
                                            {"WORLD_SIZE", std::to_string(hosts.count * ranks)},
                                            {"LOCAL_RANK", std::to_string(rank)},
                                            {"LOCAL_WORLD_SIZE", std::to_string(ranks)},
                                            {"MASTER_ADDR", hosts.master_address},
                                            {"MASTER_PORT", std::to_string(hosts.master_port)},
                                            {"TRIREME_WORLD_FD", std::to_string(world_fd)}};
  if (hosts.secret.is_given()) set[kJobSecretVariable] = hosts.secret.hex();
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(options.world.timeout);
  set[kTimeoutVariable] = std::to_string(seconds.count());
  if (!hosts.job.empty()) set["TRIREME_JOB_ID"] = hosts.job;
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    set["OMP_NUM_THREADS"] = std::to_string(std::max(1, usable_cores() / ranks));
  }
  return set;
}

std::vector<int> cores_of_rank(const LaunchOptions& options, int rank) {
  const std::vector<int> cores = cores_of_affinity();
  const auto count = static_cast<std::int64_t>(cores.size());
  if (!options.pin_to_cores || options.ranks > count) return {};
  const Range share = partition(count, options.ranks, rank);
  return {cores.begin() + share.begin, cores.begin() + share.end};
}

std::filesystem::path log_path(const LaunchOptions& options, int rank) {
  return options.log_directory / ("rank-" + std::to_string(rank) + ".log");
}

// Executes what the supervisor decides: the one place where its state machine meets the system.
class Launch {
 public:
  Launch(const LaunchOptions& options, const RankMain& main, std::vector<std::string> command)
      : options_(options),
        supervisor_(options.ranks, options.ending),
        world_(shm::World::create(options.ranks, options.world)),
        out_(options.stdout_fd),
        err_(options.stderr_fd) {
    open_logs();
    HostsOptions hosts = options.hosts;
    if (hosts.count == 1) {
      hosts = {.master_address = "127.0.0.1",
               .master_port = free_port(),
               .job = fmt::format("trireme run, process {}", ::getpid()),
               .secret = JobSecret::random()};
    }
    for (int rank = 0; rank < options.ranks; ++rank) start(rank, hosts, main, command);
  }

  ExitReport run() {
    while (!supervisor_.finished()) wait_for_events();
    for (Outlet* outlet : outlets()) outlet->write_all();
    ExitReport report = supervisor_.exit_report();
    report.first_rank = first_rank_of(options_);
    report.world_size = options_.hosts.count * options_.ranks;
    if (const int rank = report.failed_rank; rank >= 0) {
      report.last_lines = ranks_[rank].err.last_lines();
      if (!logs_.empty() && rank > 0) report.log = log_path(options_, rank).string();
    }
    return report;
  }

 private:
  struct Rank {
    RankProcess process;
    std::optional<RankOutput> out;
    RankOutput err;
    bool ended = false;
  };

  // log_directory/rank-1.log and so on; before any process is started.
  void open_logs() {
    if (options_.log_directory.empty()) return;
    make_directories(options_.log_directory, *options_.files);
    for (int rank = 1; rank < options_.ranks; ++rank) {
      auto file = options_.files->open_to_append(log_path(options_, rank));
      logs_.push_back(std::make_unique<Outlet>(std::move(file), err_));
    }
  }

  void start(int rank, const HostsOptions& hosts, const RankMain& main,
             const std::vector<std::string>& command) {
    RankSpec spec;
    const int world_fd = world_.fd();
    if (main) spec.main = [&main, rank, world_fd] { return main(rank, world_fd); };
    spec.command = command;
    spec.environment = environment_of(rank, options_, hosts, world_fd);
    spec.cores = cores_of_rank(options_, rank);
    spec.inherited_fd = world_fd;
    spec.closed_fds = own_fds();
    spec.stdout_fd = rank == 0 ? options_.stdout_fd : -1;
    spec.signal_mask = signals_.mask_before();

    RankProcess process(spec);
    const auto passing = rank == 0 ? RankOutput::Passing::kBytes : RankOutput::Passing::kLines;
    const std::string prefix =
        logs_.empty() ? fmt::format("[rank {}] ", first_rank_of(options_) + rank) : "";
    const auto reader = [&](FileDescriptor& pipe, Outlet& unlogged) {
      Outlet& outlet = rank == 0 || logs_.empty() ? unlogged : *logs_[rank - 1];
      return RankOutput(std::move(pipe), outlet, passing, prefix);
    };
    std::optional<RankOutput> out;
    if (process.stdout_pipe().is_open()) out = reader(process.stdout_pipe(), out_);
    RankOutput err = reader(process.stderr_pipe(), err_);
    ranks_.push_back({std::move(process), std::move(out), std::move(err)});
  }

  std::vector<int> own_fds() {
    std::vector<int> fds = {signals_.fd()};
    for (Rank& rank : ranks_) {
      fds.insert(fds.end(), {rank.process.ended().fd(), rank.err.fd()});
      if (rank.out) fds.push_back(rank.out->fd());
    }
    return fds;
  }

  std::vector<Outlet*> outlets() {
    std::vector<Outlet*> all;
    for (const auto& log : logs_) all.push_back(log.get());
    all.insert(all.end(), {&out_, &err_});  // last: a log that cannot be written uses them
    return all;
  }

  std::vector<RankOutput*> outputs() {
    std::vector<RankOutput*> all;
    for (Rank& rank : ranks_) {
      if (rank.out) all.push_back(&*rank.out);
      all.push_back(&rank.err);
    }
    return all;
  }

  void wait_for_events() {
    std::vector<pollfd> polled;
    std::vector<std::function<void()>> answers;
    const auto watch = [&](int fd, short events, std::function<void()> answer) {
      polled.push_back({fd, events, 0});
      answers.push_back(std::move(answer));
    };
    // In this order, so that the output of a rank is read before its end is handled.
    for (RankOutput* output : outputs()) {
      if (output->wants_to_read()) watch(output->fd(), POLLIN, [=] { output->read_some(); });
    }
    for (Outlet* outlet : outlets()) {
      if (outlet->is_waiting()) watch(outlet->fd(), POLLOUT, [=] { outlet->write_some(); });
    }
    watch(signals_.fd(), POLLIN, [this] { take_signals(); });
    for (int rank = 0; rank < options_.ranks; ++rank) {
      if (ranks_[rank].ended) continue;
      watch(ranks_[rank].process.ended().fd(), POLLIN, [this, rank] { end(rank); });
    }

    if (::poll(polled.data(), polled.size(), milliseconds_to_timer()) > 0) {
      for (std::size_t i = 0; i < polled.size(); ++i) {
        if (polled[i].revents != 0) answers[i]();
      }
    }
    if (timer_ && now() >= *timer_) {
      timer_.reset();
      execute(supervisor_.time_passed(now()));
    }
    for (const auto& log : logs_) log->write_all();
  }

  void take_signals() {
    while (const int signal = signals_.next()) {
      if (signal == SIGPIPE || signal == SIGTTOU) continue;
      if (signal == SIGTSTP) {
        stop_until_continued();
      } else {
        execute(supervisor_.interrupted(signal, now()));
      }
    }
  }

  // Ctrl-Z: the ranks stop as well, and go on with this process. Where there is no shell that could
  // continue it (an orphaned process group) the system does not stop it, and all go on at once.
  void stop_until_continued() {
    signal_all(SIGTSTP);
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    ::raise(SIGTSTP);
    ::pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);  // stops here
    ::pthread_sigmask(SIG_BLOCK, &stop, nullptr);
    signal_all(SIGCONT);
  }

  void signal_all(int signal) {
    for (const Rank& rank : ranks_) {
      if (!rank.ended) rank.process.signal(signal);
    }
  }

  void end(int index) {
    Rank& rank = ranks_[index];
    const ExitStatus status = rank.process.reap();
    rank.ended = true;
    if (rank.out) rank.out->finish();
    rank.err.finish();
    execute(supervisor_.exited(index, status, now()));
  }

  void execute(const Supervisor::Actions& actions) {
    for (const Supervisor::Action& action : actions) {
      if (const auto* send = std::get_if<Supervisor::SendSignal>(&action)) {
        ranks_[send->rank].process.signal(send->signal);
      } else if (const auto* lost = std::get_if<Supervisor::MarkLost>(&action)) {
        world_.mark_lost(lost->rank, lost->why);
      } else if (const auto* ended = std::get_if<Supervisor::MarkEnded>(&action)) {
        world_.mark_ended(ended->rank);
      } else {
        timer_ = std::get<Supervisor::ArmTimer>(action).when;
      }
    }
  }

  Supervisor::Time now() const { return options_.clock->now().time_since_epoch(); }

  int milliseconds_to_timer() const {
    if (!timer_) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*timer_ - now());
    return static_cast<int>(std::max<std::int64_t>(0, left.count()));
  }

  const LaunchOptions& options_;
  Supervisor supervisor_;
  shm::World world_;
  SignalQueue signals_;
  Outlet out_;
  Outlet err_;
  std::vector<std::unique_ptr<Outlet>> logs_;  // of rank 1 and on; empty without a log directory
  std::vector<Rank> ranks_;
  std::optional<Supervisor::Time> timer_;
};

}  // namespace

ExitReport launch(const LaunchOptions& options, const RankMain& main) {
  return Launch(options, main, {}).run();
}

ExitReport launch(const LaunchOptions& options, const std::vector<std::string>& command) {
  if (command.empty()) throw UsageError("run: a program to start is missing");
  return Launch(options, nullptr, command).run();
}

}  // namespace trireme
