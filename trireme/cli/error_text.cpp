#include "trireme/cli/error_text.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <new>
#include <string_view>
#include <system_error>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/launch/exit_codes.h"

namespace trireme::cli {

namespace {

constexpr const char* kOutOfMemory =
    "out of memory; use fewer ranks, parallelism.shard, a smaller training.global_batch or "
    "evaluation.batch, or a smaller model";

// libtorch's messages may have several lines, and blanks at their ends.
std::string_view first_line(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \n"), text.size()));
  return text.substr(0, text.find('\n'));
}

std::string of_torch(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  if (text.find("allocate memory") != std::string::npos) return kOutOfMemory;
  return fmt::format("an error inside libtorch: {}", first_line(text));
}

}  // namespace

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const Error*>(&error) != nullptr) return std::string(first_line(error.what()));
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return kOutOfMemory;
  if (const auto* torch = dynamic_cast<const c10::Error*>(&error)) return of_torch(*torch);
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return fmt::format("{}: {}",
                       file->path1().empty() ? "the current folder" : file->path1().string(),
                       system_reason(file->code().value()));
  }
  if (const auto* system = dynamic_cast<const std::system_error*>(&error)) {
    return fmt::format("the system refuses a call: {}", system_reason(system->code().value()));
  }
  return fmt::format("an error inside trireme: {}", first_line(error.what()));
}

int exit_code_of_rank(const std::exception& error) {
  const bool diverged = dynamic_cast<const DivergedError*>(&error) != nullptr;
  return static_cast<int>(diverged ? ExitCode::kDiverged : exit_code_of(error));
}

}  // namespace trireme::cli
