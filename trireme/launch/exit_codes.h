#pragma once

#include <exception>
#include <string_view>

namespace trireme {

/// How trireme programs and ranks end: the single source of docs/errors.md. A program that dies of
/// a signal counts as 128 + signal, as in a shell.
enum class ExitCode : int {
  kOk = 0,             ///< done
  kInternalError = 1,  ///< an error inside trireme or the program
  kUsage = 2,          ///< the command line or the configuration must be fixed
  kData = 3,           ///< a file is missing, torn or not what it says
  kPeerLost = 4,       ///< another rank was lost: this one is a victim
  kDiverged = 5,       ///< the loss or a gradient is not finite
  kInterrupted = 130,  ///< stopped by Ctrl-C or another polite request
};

/// One line for help texts: "a file is missing, torn or not what it says".
std::string_view meaning_of(ExitCode code);

/// The code with which a rank ends on an exception: UsageError kUsage, DataError kData, CommError
/// kPeerLost, anything else kInternalError.
ExitCode exit_code_of(const std::exception& error);

constexpr int exit_code_of_signal(int signal) {
  return 128 + signal;
}

}  // namespace trireme
