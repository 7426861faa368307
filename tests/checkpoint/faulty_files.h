#pragma once

namespace trireme::test {

/// What is to happen to this process's files. Their operations (open for writing, write, fsync,
/// rename, mkdir, remove) are counted from arm() on, and number `operation`, from 0, does not take
/// place:
///
///     kError      it fails with ENOSPC
///     kPowerCut   the process ends with status kPowerCutStatus, and whatever was not synced is
///                 lost: the contents of files, and the names of new files in their folders
struct Fault {
  enum Kind { kError, kPowerCut };
  Kind kind = kError;
  int operation = 0;
};

inline constexpr int kPowerCutStatus = 77;

void arm(Fault fault);
/// True if the fault has struck.
bool disarm();

}  // namespace trireme::test
