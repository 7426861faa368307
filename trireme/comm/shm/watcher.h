#pragma once

#include <thread>

#include "trireme/base/file_descriptor.h"

namespace trireme::shm {

class Segment;

/// Marks a rank lost when its process ends while it still has communicators. It is used when no
/// launcher watches the ranks. One thread sleeps until a process ends (pidfd_open(2)); while ranks
/// are missing, it polls for them 50 times a second.
class Watcher {
 public:
  /// Watches the processes of the ranks other than `world_rank`. `segment` must outlive the
  /// watcher. Throws CommError if the system cannot watch processes.
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
