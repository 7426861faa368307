#include "trireme/comm/nccl/link.h"

#include <fmt/format.h>

#include <thread>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/comm/backoff.h"

namespace trireme::nccl {

namespace {

using Clock = std::chrono::steady_clock;

// Calls `end` on a thread that is left behind if nobody waits for it long enough.
std::future<void> on_thread_of_its_own(std::function<void()> end) {
  std::packaged_task<void()> task(std::move(end));
  std::future<void> done = task.get_future();
  std::thread(std::move(task)).detach();
  return done;
}

}  // namespace

void Link::check(ncclResult_t code, const char* call) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  throw CommError(fmt::format("{}: {}", call, ncclGetErrorString(code)));
}

Link::Link(const ncclUniqueId& id, int rank, int size) {
  cuda::check(cudaGetDevice(&device_), "cudaGetDevice");
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t code = ncclCommInitRankConfig(&comm_, size, id, rank, &config);
  try {
    note(code, "ncclCommInitRankConfig");
  } catch (...) {
    close(false);
    throw;
  }
}

Link::~Link() {
  close(false);
}

void Link::note(ncclResult_t code, const char* call) {
  check(code, call);
  asked_ = code == ncclInProgress ? call : nullptr;
}

bool Link::is_settled() {
  if (!asked_) return true;
  ncclResult_t code = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &code), "ncclCommGetAsyncError");
  note(code, asked_);
  return !asked_;
}

void Link::settle(const Watch& watch, Deadline deadline) {
  const Backoff backoff;
  while (!is_settled()) {
    watch();
    if (Clock::now() >= deadline) throw CommError(fmt::format("{}: did not end in time", asked_));
    backoff.pause();
  }
}

void Link::check_progress() const {
  ncclResult_t code = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &code), "ncclCommGetAsyncError");
  check(code, "nccl");
}

void Link::close(bool is_idle) {
  std::vector<std::future<void>> closing;
  closing.push_back(begin_close(is_idle));
  wait_for_end(closing);
}

std::future<void> Link::begin_close(bool is_idle) {
  if (!comm_) return {};
  const ncclComm_t comm = std::exchange(comm_, nullptr);
  // Either may wait for the other ranks of the host.
  return on_thread_of_its_own([comm, is_idle, device = device_] {
    (void)cudaSetDevice(device);
    is_idle ? ncclCommDestroy(comm) : ncclCommAbort(comm);
  });
}

void Link::wait_for_end(const std::vector<std::future<void>>& closings) {
  const auto late = Clock::now() + kShutdownTimeout;
  for (const std::future<void>& closing : closings) {
    if (closing.valid()) closing.wait_until(late);
  }
}

}  // namespace trireme::nccl
