#include "tests/world/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string_view>
#include <thread>
#include <utility>

#include "trireme/base/output_file.h"

namespace trireme::test {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// What a launcher around the tests may have set.
bool is_of_a_launcher(std::string_view variable) {
  for (const std::string_view name : {"RANK=", "WORLD_SIZE=", "LOCAL_RANK=", "LOCAL_WORLD_SIZE=",
                                      "MASTER_ADDR=", "MASTER_PORT="}) {
    if (variable.starts_with(name)) return true;
  }
  for (const std::string_view family :
       {"OMPI_", "PMI", "MPI_", "HYDRA_", "SLURM_", "TORCHELASTIC_", "TRIREME_"}) {
    if (variable.starts_with(family)) return true;
  }
  return false;
}

std::vector<std::string> environment_with(const Variables& variables) {
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const bool is_replaced = variables.contains(std::string(text.substr(0, text.find('='))));
    if (!is_of_a_launcher(text) && !is_replaced) environment.emplace_back(text);
  }
  for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
  return environment;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Child::Child(const std::vector<std::string>& command, const Variables& variables,
             const std::function<void()>& prepare)
    : out_(open_output_file("child")) {
  std::vector<std::string> words = command;
  std::vector<std::string> environment = environment_with(variables);
  const std::vector<char*> argv = pointers_to(words);
  const std::vector<char*> envp = pointers_to(environment);
  const pid_t test = getpid();
  pid_ = fork();
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != test) _exit(126);
  dup2(out_.fd(), STDOUT_FILENO);
  dup2(out_.fd(), STDERR_FILENO);
  if (prepare) prepare();
  execvpe(argv[0], argv.data(), envp.data());
  dprintf(STDERR_FILENO, "%s cannot be started\n", argv[0]);
  _exit(127);
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), status_(other.status_), out_(std::move(other.out_)) {}

Child::~Child() {
  end();
}

std::string Child::out() const {
  struct stat status {};
  fstat(out_.fd(), &status);
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t count = pread(out_.fd(), text.data(), text.size(), 0);
  text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return text;
}

void Child::signal(int signal) const {
  if (pid_ > 0) kill(pid_, signal);
}

bool Child::wait_for(const std::string& text) {
  const auto limit = Clock::now() + 30s;
  for (;;) {
    const bool ended = has_ended();
    if (out().find(text) != std::string::npos) return true;
    if (ended || Clock::now() > limit) break;
    std::this_thread::sleep_for(5ms);
  }
  ADD_FAILURE() << "the program never said \"" << text << "\", but: " << out();
  return false;
}

Outcome Child::wait() {
  const auto limit = Clock::now() + 60s;
  while (!has_ended()) {
    if (Clock::now() > limit) {
      ADD_FAILURE() << "the program did not end; it said: " << out();
      end();
      break;
    }
    std::this_thread::sleep_for(5ms);
  }
  return {WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_), out()};
}

bool Child::has_ended() {
  if (pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = -1;
  return pid_ < 0;
}

// A launcher must have the time to end its ranks.
void Child::end() {
  if (has_ended()) return;
  signal(SIGCONT);
  signal(SIGTERM);
  const auto limit = Clock::now() + 5s;
  while (!has_ended() && Clock::now() < limit) std::this_thread::sleep_for(5ms);
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, &status_, 0);
  pid_ = -1;
}

Outcome run_child(const std::vector<std::string>& command, const Variables& variables) {
  return Child(command, variables).wait();
}

}  // namespace trireme::test
