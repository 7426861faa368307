#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <string>

#include "trireme/base/file_descriptor.h"
#include "trireme/launch/launcher.h"

namespace trireme::test {

/// Memory that the test, the launcher and the ranks all see, however they were forked.
template <class T>
class SharedBetweenProcesses {
 public:
  SharedBetweenProcesses();
  ~SharedBetweenProcesses();
  SharedBetweenProcesses(const SharedBetweenProcesses&) = delete;
  SharedBetweenProcesses& operator=(const SharedBetweenProcesses&) = delete;

  T* operator->() const { return value_; }

 private:
  T* value_;
};

/// The values that the ranks of a test write; all are zero at first.
struct Notes {
  static constexpr int kMaxRanks = 16;
  std::atomic<int> pid[kMaxRanks];         ///< of the rank, once it is ready
  std::atomic<int> grandchild[kMaxRanks];  ///< of a process that it started
  std::atomic<int> lost_rank[kMaxRanks];   ///< 1 + the rank that its CommError named
  std::atomic<int> signals[kMaxRanks];     ///< that it got
  std::atomic<int> exit_code;              ///< of a launcher that runs in a process of its own
  std::atomic<int> failed_rank;

  bool ready(int ranks) const;
};

/// Looks every millisecond, for half a minute at most.
bool becomes_true(const std::function<bool()>& condition);

/// Output that ranks and launcher write and the test reads.
class Capture {
 public:
  Capture();

  int fd() const { return file_.fd(); }
  std::string text() const;

 private:
  FileDescriptor file_;
};

/// A launcher in a process of its own, for tests that send it signals. Killed at the end.
class LauncherProcess {
 public:
  explicit LauncherProcess(const std::function<void()>& launches);
  ~LauncherProcess();
  LauncherProcess(const LauncherProcess&) = delete;
  LauncherProcess& operator=(const LauncherProcess&) = delete;

  void signal(int signal) const;

  /// False if it does not end within half a minute.
  bool wait();

 private:
  pid_t pid_;
};

/// While it lives, processes whose parent dies become children of the test, which can wait for
/// them.
class Orphanage {
 public:
  Orphanage();
  ~Orphanage();

  /// True once the process has ended; within half a minute.
  bool sees_the_end_of(pid_t pid) const;
};

}  // namespace trireme::test

#include <sys/mman.h>

#include <new>

namespace trireme::test {

template <class T>
SharedBetweenProcesses<T>::SharedBetweenProcesses() {
  void* memory =
      mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  value_ = new (memory) T{};
}

template <class T>
SharedBetweenProcesses<T>::~SharedBetweenProcesses() {
  munmap(value_, sizeof(T));
}

}  // namespace trireme::test
