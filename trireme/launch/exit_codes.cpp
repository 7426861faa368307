#include "trireme/launch/exit_codes.h"

#include "trireme/base/error.h"

namespace trireme {

std::string_view meaning_of(ExitCode code) {
  switch (code) {
    case ExitCode::kOk:
      return "done";
    case ExitCode::kInternalError:
      return "an error inside trireme or the program";
    case ExitCode::kUsage:
      return "the command line or the configuration must be fixed";
    case ExitCode::kData:
      return "a file is missing, torn or not what it says";
    case ExitCode::kPeerLost:
      return "another rank was lost or did not come";
    case ExitCode::kDiverged:
      return "training diverged: the loss, a gradient or a value of the model is not finite";
    case ExitCode::kDifferent:
      return "what was compared is not equal";
    case ExitCode::kInterrupted:
      return "interrupted";
  }
  return "a code of the program itself";
}

ExitCode exit_code_of(const std::exception& error) {
  if (dynamic_cast<const UsageError*>(&error) != nullptr) return ExitCode::kUsage;
  if (dynamic_cast<const DataError*>(&error) != nullptr) return ExitCode::kData;
  if (dynamic_cast<const CommError*>(&error) != nullptr) return ExitCode::kPeerLost;
  return ExitCode::kInternalError;
}

}  // namespace trireme
