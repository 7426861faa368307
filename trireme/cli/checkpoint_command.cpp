#include "trireme/cli/checkpoint_command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trireme/base/files.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/cli/commands.h"
#include "trireme/formats/printable.h"
#include "trireme/train/run_directory.h"

namespace trireme::cli {

std::map<std::int64_t, std::filesystem::path> checkpoints_in(const std::filesystem::path& path) {
  auto checkpoints = complete_checkpoints(RunDirectory{path}.checkpoints(), real_files());
  return checkpoints.empty() ? complete_checkpoints(path, real_files()) : checkpoints;
}

std::string title_of(const StoredTensors& stored) {
  const std::string kind = stored.is_checkpoint()
                               ? fmt::format("checkpoint of step {}", stored.manifest().state.step)
                               : "model";
  return fmt::format("{} ({})", shown(stored.path().string()), kind);
}

std::string shown(std::string_view text) {
  constexpr std::size_t kLongest = 200;
  return without_control_characters(text, kLongest);
}

std::string json_text(const nlohmann::ordered_json& value) {
  return value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void add_checkpoint(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "checkpoint",
      "List and verify checkpoints and models, look into them, compare and convert them");
  command->require_subcommand(1);
  add_checkpoint_list(*command, exit_code);
  add_checkpoint_verify(*command, exit_code);
  add_checkpoint_inspect(*command, exit_code);
  add_checkpoint_diff(*command, exit_code);
  add_checkpoint_convert(*command, exit_code);
}

}  // namespace trireme::cli
