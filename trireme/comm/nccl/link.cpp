#include "trireme/comm/nccl/link.h"

#include <fmt/format.h>

#include <future>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/comm/backoff.h"

namespace trireme::nccl {

namespace {

using Clock = std::chrono::steady_clock;

// Calls `end` on a thread that is left behind if it has not come back in time.
void shut_down_by(std::function<void()> end) {
  std::packaged_task<void()> task(std::move(end));
  const std::future<void> done = task.get_future();
  std::thread(std::move(task)).detach();
  done.wait_for(kShutdownTimeout);
}

}  // namespace

void Link::check(ncclResult_t code, const char* call) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  throw CommError(fmt::format("{}: {}", call, ncclGetErrorString(code)));
}

Link::Link(const ncclUniqueId& id, int rank, int size, const Watch& watch, Deadline deadline) {
  cuda::check(cudaGetDevice(&device_), "cudaGetDevice");
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t code = ncclCommInitRankConfig(&comm_, size, id, rank, &config);
  try {
    settle(code, "ncclCommInitRankConfig", watch, deadline);
  } catch (...) {
    close(false);
    throw;
  }
}

Link::~Link() {
  close(false);
}

void Link::settle(ncclResult_t code, const char* call, const Watch& watch,
                  Deadline deadline) const {
  check(code, call);
  const Backoff backoff;
  while (code == ncclInProgress) {
    check(ncclCommGetAsyncError(comm_, &code), "ncclCommGetAsyncError");
    check(code, call);
    if (code == ncclSuccess) return;
    watch();
    if (Clock::now() >= deadline) throw CommError(fmt::format("{}: did not end in time", call));
    backoff.pause();
  }
}

void Link::check_progress() const {
  ncclResult_t code = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &code), "ncclCommGetAsyncError");
  check(code, "nccl");
}

void Link::close(bool is_idle) {
  if (!comm_) return;
  const ncclComm_t comm = std::exchange(comm_, nullptr);
  // Either may wait for the other ranks of the host.
  shut_down_by([comm, is_idle, device = device_] {
    (void)cudaSetDevice(device);
    is_idle ? ncclCommDestroy(comm) : ncclCommAbort(comm);
  });
}

}  // namespace trireme::nccl
