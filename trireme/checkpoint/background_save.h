#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "trireme/base/state_tensor.h"
#include "trireme/base/zeroed_memory.h"
#include "trireme/comm/communicator.h"

namespace trireme {

/// Saves while training goes on, one save at a time: copies the state, which takes as long as
/// copying memory does, and writes the copy in a thread of its own.
///
///     BackgroundSave background(world);
///     background.start(tensors, [=](Communicator& ranks, std::span<const StateTensor> copies) {
///       save_checkpoint(directory, ranks, state, copies, retention);
///     });
///
/// The copy costs as much memory as the tensors that are written, from the first save on. One
/// thread at a time.
class BackgroundSave {
 public:
  using Write = std::function<void(Communicator& ranks, std::span<const StateTensor> copies)>;

  /// Collective: saves have a communicator of their own, as they run beside the steps.
  explicit BackgroundSave(Communicator& ranks);
  /// Waits for a save that runs; its error is lost.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  /// Copies what is written of `tensors` and lets the thread call `write`, which is collective.
  /// Must be called on every rank, after wait().
  void start(std::span<const StateTensor> tensors, Write write);

  /// True from start() to wait().
  bool is_open() const { return thread_.joinable(); }
  /// True once wait() would not wait.
  bool has_ended() const { return has_ended_; }
  /// Ends the save: waits for it, and throws what `write` has thrown. Does nothing if none is open.
  void wait();

 private:
  void copy(std::span<const StateTensor> tensors);

  std::unique_ptr<Communicator> ranks_;
  ZeroedMemory memory_;
  std::size_t bytes_ = 0;  // of memory_
  std::vector<StateTensor> copies_;
  std::thread thread_;
  std::atomic<bool> has_ended_{false};
  std::exception_ptr error_;
};

}  // namespace trireme
