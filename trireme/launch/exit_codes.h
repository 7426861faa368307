#pragma once

#include <exception>
#include <string_view>

namespace trireme {

/// The exit codes of trireme programs and ranks, as in docs/errors.md. A program that is killed by
/// a signal counts as 128 + signal, as in a shell.
enum class ExitCode : int {
  kOk = 0,             ///< done
  kInternalError = 1,  ///< an error inside trireme or the program
  kUsage = 2,          ///< the command line or the configuration must be fixed
  kData = 3,           ///< a file is missing, torn or not what it says
  kPeerLost = 4,       ///< another rank was lost or did not come: this rank is a victim
  kDiverged = 5,       ///< the loss, a gradient or a value of the model is not finite
  kDifferent = 6,      ///< what was compared is not equal
  kInterrupted = 130,  ///< stopped by Ctrl-C or another request to stop
};

/// One line for help texts: "a file is missing, torn or not what it says".
std::string_view meaning_of(ExitCode code);

/// The exit code for an exception: kUsage for UsageError, kData for DataError, kPeerLost for
/// CommError, kInternalError for any other.
ExitCode exit_code_of(const std::exception& error);

constexpr int exit_code_of_signal(int signal) {
  return 128 + signal;
}

}  // namespace trireme
