#include "trireme/comm/message/worker_threads.h"

#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"

namespace trireme::message {

WorkerThreads::WorkerThreads(int count) : workers_(static_cast<std::size_t>(count)) {
  try {
    for (Worker& worker : workers_) {
      worker.thread = start_thread("communicator", [&worker] { serve(worker); });
    }
  } catch (const UsageError&) {
    stop();  // those that have been started
    throw;
  }
}

WorkerThreads::~WorkerThreads() {
  stop();
}

void WorkerThreads::run(int thread, std::function<void()> task) {
  Worker& worker = workers_[static_cast<std::size_t>(thread)];
  const std::lock_guard lock(worker.mutex);
  worker.tasks.push_back(std::move(task));
  worker.changed.notify_one();
}

void WorkerThreads::stop() {
  for (Worker& worker : workers_) {
    const std::lock_guard lock(worker.mutex);
    worker.is_stopping = true;
    worker.changed.notify_one();
  }
  for (Worker& worker : workers_) {
    if (worker.thread.joinable()) worker.thread.join();
  }
}

void WorkerThreads::serve(Worker& worker) {
  std::unique_lock lock(worker.mutex);
  for (;;) {
    worker.changed.wait(lock, [&] { return worker.is_stopping || !worker.tasks.empty(); });
    if (worker.tasks.empty()) return;
    const std::function<void()> task = std::move(worker.tasks.front());
    worker.tasks.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

}  // namespace trireme::message
