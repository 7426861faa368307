#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace trireme::test {

/// How the trireme program ended and what it said.
struct Ended {
  int exit_code = 0;  ///< 128 + signal if a signal ended it
  std::string out;
  std::string err;
};

/// How the program is started.
enum class Start {
  /// As a fork of this test that calls what the program's main() calls: nothing has to be loaded
  /// again. A test that has threads starts the program's file all the same.
  kFork,
  /// As the program's file, the way a user starts it.
  kFile,
};

/// The trireme program under test, as a child process in `folder`. Its end is awaited for at most
/// two minutes, then it is killed and the test fails.
class Program {
 public:
  Program(const std::filesystem::path& folder, const std::vector<std::string>& arguments,
          Start start = Start::kFork);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  Ended wait();

  /// Waits until the file exists and holds `text`; fails the test after half a minute.
  void wait_for(const std::filesystem::path& file, const std::string& text);

 private:
  std::filesystem::path out_;
  std::filesystem::path err_;
  std::filesystem::path folder_;
  pid_t pid_ = -1;
};

Ended run_program(const std::filesystem::path& folder, const std::vector<std::string>& arguments,
                  Start start = Start::kFork);

/// Processes whose parent is `pid`.
std::vector<pid_t> children_of(pid_t pid);

/// An empty folder that is removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace trireme::test
