#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "trireme/base/file_descriptor.h"

namespace trireme::test {

using Variables = std::map<std::string, std::string>;

/// How a program ended, and what it and its children have said.
struct Outcome {
  int exit_code = -1;  ///< 128 + signal if a signal ended it
  std::string out;     ///< stdout and stderr
};

/// A program that a test has started. It sees the test's environment without the variables of any
/// launcher, and `variables`. Killed at the end of the object or of the test, whichever way it
/// ends.
class Child {
 public:
  /// `prepare` runs in the child before the program starts.
  explicit Child(const std::vector<std::string>& command, const Variables& variables = {},
                 const std::function<void()>& prepare = {});
  Child(Child&& other) noexcept;
  ~Child();

  pid_t pid() const { return pid_; }
  std::string out() const;
  void signal(int signal) const;

  /// Waits until it has said `text`. False, and the running test fails, if it ends or half a minute
  /// passes before.
  bool wait_for(const std::string& text);

  /// Waits for its end, a minute at most: then it is killed and the running test fails.
  Outcome wait();

 private:
  bool has_ended();
  void end();

  pid_t pid_ = -1;
  int status_ = 0;
  FileDescriptor out_;
};

/// Runs `command` with these variables and returns its output and how it ended.
Outcome run_child(const std::vector<std::string>& command, const Variables& variables = {});

}  // namespace trireme::test
