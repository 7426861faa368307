#include "trireme/train/run_lock.h"

#include <fmt/format.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/host_name.h"
#include "trireme/formats/printable.h"

namespace trireme {

namespace {

std::string this_process() {
  return fmt::format("process {} on {}", ::getpid(), host_name());
}

// Of the lock's file, which another program may have written.
std::string holder_of(const RunDirectory& run, Files& files) {
  constexpr std::size_t kMostBytes = 300;
  try {
    const std::string text = read_file(run.lock(), files).substr(0, kMostBytes);
    return text.empty() ? "another run" : printable(text);
  } catch (const DataError&) {
    return "another run, which has just ended";
  }
}

}  // namespace

RunLock::RunLock(RunDirectory run, Files& files) : run_(std::move(run)), files_(files) {
  is_new_directory_ = files_.kind_of(run_.root) == FileKind::kNone;
  make_directories(run_.root, files_);
  file_ = files_.lock(run_.lock(), this_process());
  if (file_) return;
  throw UsageError(
      fmt::format("run.directory: {} is in use by {}, which holds {}; wait for its end or choose "
                  "another directory",
                  run_.root.string(), holder_of(run_, files_), run_.lock().string()));
}

RunLock::~RunLock() {
  try {
    files_.remove(run_.lock());
    if (is_new_directory_ && files_.names_in(run_.root).empty()) files_.remove(run_.root);
  } catch (const DataError&) {
    // A file without a lock keeps no run away.
  }
}

}  // namespace trireme
