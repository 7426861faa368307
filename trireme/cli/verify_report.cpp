#include "trireme/cli/verify_report.h"

#include <fmt/format.h>

#include <cstdint>
#include <utility>

#include "trireme/base/text.h"
#include "trireme/launch/exit_codes.h"

namespace trireme::cli {

namespace {

using Json = nlohmann::ordered_json;

std::string words_of(const std::map<std::string, std::int64_t>& compared) {
  const auto count_of = [&](const char* kind) {
    const auto found = compared.find(kind);
    return found == compared.end() ? std::int64_t{0} : found->second;
  };
  std::string text = "loss";
  if (count_of("norm") > 0) text += ", norm";
  for (const char* kind : {"gradient", "parameter"}) {
    if (count_of(kind) > 0) text += ", " + counted(count_of(kind), kind);
  }
  if (count_of("optimizer state") > 0) {
    text += fmt::format(", {} of optimizer state", counted(count_of("optimizer state"), "tensor"));
  }
  if (count_of("buffer") > 0) text += ", " + counted(count_of("buffer"), "buffer");
  return text;
}

std::string words_of(const Difference& difference) {
  std::string text = fmt::format("different in step {}: {}", difference.step, difference.kind);
  if (!difference.tensor.empty()) {
    text += fmt::format(" {}, element {}", difference.tensor, difference.index);
  }
  const std::string elements = counted(difference.of_elements, "element");
  if (difference.rank < 0) {
    return text + fmt::format(": on no rank, and {} on one rank ({} of {} on no rank)",
                              difference.expected, difference.elements, elements);
  }
  text += fmt::format(": {} on rank {}, {} on one rank", difference.value, difference.rank,
                      difference.expected);
  if (difference.tensor.empty()) return text;
  return text + fmt::format(" ({} of the rank's {} differ)", difference.elements, elements);
}

Json json_of(const Difference& difference) {
  return {{"step", difference.step},
          {"kind", difference.kind},
          {"tensor", difference.tensor},
          {"rank", difference.rank},
          {"index", difference.index},
          {"value", difference.value},
          {"expected", difference.expected},
          {"elements", difference.elements},
          {"of_elements", difference.of_elements}};
}

}  // namespace

VerifyOutcome outcome_of(const Verification& verification, double bound) {
  const Json compared = {{"steps", verification.steps}, {"compared", verification.compared}};
  if (verification.difference) {
    VerifyOutcome outcome{.result = "different",
                          .text = words_of(*verification.difference),
                          .json = compared,
                          .exit_code = static_cast<int>(ExitCode::kDifferent)};
    outcome.json["difference"] = json_of(*verification.difference);
    return outcome;
  }
  const std::string how = bound == 0 ? "same bits" : fmt::format("equal within {}", bound);
  return {.result = "same",
          .text = fmt::format("{} in {}: {}", how, counted(verification.steps, "step"),
                              words_of(verification.compared)),
          .json = compared};
}

VerifyOutcome failed_outcome(std::string message, int exit_code) {
  return {.result = "error",
          .text = message,
          .json = {{"error", std::move(message)}},
          .exit_code = exit_code};
}

std::string to_text(const VerifyOutcome& outcome) {
  return Json{{"result", outcome.result},
              {"text", outcome.text},
              {"json", outcome.json},
              {"exit_code", outcome.exit_code}}
      .dump();
}

VerifyOutcome outcome_from(const std::string& text) {
  const Json json = Json::parse(text);
  return {.result = json["result"],
          .text = json["text"],
          .json = json["json"],
          .exit_code = json["exit_code"]};
}

}  // namespace trireme::cli
