#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/text.h"
#include "trireme/checkpoint/condition.h"
#include "trireme/cli/checkpoint_command.h"
#include "trireme/cli/terminal.h"
#include "trireme/launch/exit_codes.h"

namespace trireme::cli {

namespace {

namespace fs = std::filesystem;

// Prints whether the checkpoint or the model is whole. Returns true if it is.
bool verify(const fs::path& path, const std::vector<std::string>& damage) {
  for (const std::string& sentence : damage) {
    std::cout << fmt::format("damaged: {}\n", shown(sentence));
  }
  if (!damage.empty()) return false;
  const StoredTensors stored(path);
  std::int64_t bytes = 0;
  for (const Manifest::File& file : stored.manifest().files) bytes += file.bytes;
  std::cout << fmt::format("whole: {}, {} in {}\n", title_of(stored), with_commas(bytes, "byte"),
                           counted(std::ssize(stored.manifest().files), "file"));
  return true;
}

// A model has no hashes: its sizes and its headers must fit together.
std::vector<std::string> damage_of_model(const fs::path& path) {
  try {
    const StoredTensors stored(path);
    return {};
  } catch (const DataError& error) {
    return {error.what()};
  }
}

bool verify(const fs::path& path) {
  if (real_files().kind_of(path) != FileKind::kDirectory) {
    return verify(path, damage_of_model(path));
  }
  const auto checkpoints = checkpoints_in(path);
  if (checkpoints.empty()) return verify(path, damage_by_hash(path));
  bool is_whole = true;
  for (const auto& [step, folder] : checkpoints) {
    is_whole = verify(folder, damage_by_hash(folder)) && is_whole;
  }
  return is_whole;
}

}  // namespace

void add_checkpoint_verify(CLI::App& checkpoint, int& exit_code) {
  auto paths = std::make_shared<std::vector<std::string>>();
  CLI::App* command = checkpoint.add_subcommand(
      "verify", "Read checkpoints whole, with all hashes; exit code 3: a file is damaged");
  command
      ->add_option("PATH", *paths,
                   "a run directory or a directory of checkpoints (all of them), "
                   "checkpoints/step-N, a model.safetensors or its index")
      ->required();
  command->callback([paths, &exit_code] {
    bool is_whole = true;
    for (const std::string& path : *paths) is_whole = verify(path) && is_whole;
    exit_code = static_cast<int>(is_whole ? ExitCode::kOk : ExitCode::kData);
  });
}

}  // namespace trireme::cli
