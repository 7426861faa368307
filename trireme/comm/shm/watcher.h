#pragma once

#include <thread>

#include "trireme/base/file_descriptor.h"

namespace trireme::shm {

class Segment;

/// Marks a rank lost when its process ends while it still has communicators: for ranks that nobody
/// else watches. One thread, which sleeps until a process ends (pidfd_open(2)); as long as ranks
/// are missing it looks for them 50 times a second.
class Watcher {
 public:
  /// Watches the other ranks' processes on behalf of `world_rank`. `segment` must outlive it.
  /// Throws CommError if the system cannot watch processes.
  Watcher(Segment& segment, int world_rank);
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

 private:
  void watch();

  Segment& segment_;
  int world_rank_;
  FileDescriptor stop_;
  std::thread thread_;
};

}  // namespace trireme::shm
