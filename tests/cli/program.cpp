#include "tests/cli/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <thread>

#include "tests/formats/temporary_folder.h"
#include "trireme/base/files.h"
#include "trireme/cli/program.h"

namespace trireme::test {

namespace {

using namespace std::chrono_literals;

bool poll_until(std::chrono::seconds limit, const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

std::string contents(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? read_file(path) : std::string();
}

std::ptrdiff_t threads_of_this_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

void flush_output() {
  std::cout.flush();
  std::fflush(nullptr);
}

}  // namespace

Program::Program(const std::filesystem::path& folder, const std::vector<std::string>& arguments,
                 Start start)
    : folder_(folder) {
  static int count = 0;
  out_ = folder / ("stdout-" + std::to_string(count));
  err_ = folder / ("stderr-" + std::to_string(count++));
  std::vector<std::string> words = {TRIREME_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  if (threads_of_this_process() > 1) start = Start::kFile;
  flush_output();  // or the child would write it again
  pid_ = ::fork();
  if (pid_ != 0) return;
  const int out = ::open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  const int err = ::open(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  if (::chdir(folder.c_str()) != 0) ::_exit(126);
  if (start == Start::kFile) {
    ::execv(argv[0], argv.data());
    ::_exit(126);
  }
  const int exit_code = cli::run_program(static_cast<int>(words.size()), argv.data());
  flush_output();
  ::_exit(exit_code);
}

Program::~Program() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Ended Program::wait() {
  int status = 0;
  const bool ended = poll_until(120s, [&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; });
  if (!ended) {
    ADD_FAILURE() << "the program did not end; its stderr: " << contents(err_);
    return {};
  }
  pid_ = -1;
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return {code, contents(out_), contents(err_)};
}

void Program::wait_for(const std::filesystem::path& file, const std::string& text) {
  const bool there =
      poll_until(30s, [&] { return contents(folder_ / file).find(text) != std::string::npos; });
  if (!there) ADD_FAILURE() << file << " never held " << text << "; stderr: " << contents(err_);
}

Ended run_program(const std::filesystem::path& folder, const std::vector<std::string>& arguments,
                  Start start) {
  return Program(folder, arguments, start).wait();
}

std::vector<pid_t> children_of(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
  std::vector<pid_t> children;
  for (pid_t child; in >> child;) children.push_back(child);
  return children;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (folder_in_memory() / "trireme-test-XXXXXX").string();
  path_ = ::mkdtemp(pattern.data());
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace trireme::test
