#pragma once

#include <memory>

#include "trireme/base/files.h"
#include "trireme/train/run_directory.h"

namespace trireme {

/// Holds the lock of a run directory, so that one run at a time writes there. The lock ends with
/// the object or with its process and the processes that this one has forked, however they end.
class RunLock {
 public:
  /// Makes the directory if there is none. Throws UsageError, which names the holder, if another
  /// run has the lock, DataError if the directory cannot be written.
  explicit RunLock(RunDirectory run, Files& files = real_files());
  /// Removes the file of the lock and, if the constructor has made the directory and it is empty,
  /// the directory.
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  RunDirectory run_;
  Files& files_;
  bool is_new_directory_;
  std::unique_ptr<File> file_;
};

}  // namespace trireme
