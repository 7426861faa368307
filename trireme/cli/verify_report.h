#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "trireme/train/verify.h"

namespace trireme::cli {

/// What became of a layout, as `trireme verify` reports it.
struct VerifyOutcome {
  std::string result;           ///< "same", "different" or "error"
  std::string text;             ///< one line; of an error, its message
  nlohmann::ordered_json json;  ///< what belongs to the result
  int exit_code = 0;
};

/// "same bits in 3 steps: ..." or "different in step 2: ...". `bound`: VerifyOptions::bound.
VerifyOutcome outcome_of(const Verification& verification, double bound);

/// The outcome of a layout that has failed: "rank 1: ...".
VerifyOutcome failed_outcome(std::string message, int exit_code);

/// For the way from a rank to the program that has started it.
std::string to_text(const VerifyOutcome& outcome);
VerifyOutcome outcome_from(const std::string& text);

}  // namespace trireme::cli
