#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace trireme::message {

/// A fixed number of threads, each with a queue of its own. Tasks of one thread run one after
/// another, in the order in which they were given to it. Thread-safe.
class WorkerThreads {
 public:
  explicit WorkerThreads(int count);
  /// Calls stop().
  ~WorkerThreads();

  int count() const { return static_cast<int>(workers_.size()); }

  /// `task` must not throw. Must not be called after stop().
  void run(int thread, std::function<void()> task);

  /// Returns once all tasks have run and the threads have ended.
  void stop();

 private:
  struct Worker {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> tasks;
    bool is_stopping = false;
    std::thread thread;
  };

  static void serve(Worker& worker);

  std::vector<Worker> workers_;
};

}  // namespace trireme::message
