#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "trireme/checkpoint/stored_tensors.h"

namespace trireme::cli {

// Each adds one subcommand to `trireme checkpoint`.
void add_checkpoint_inspect(CLI::App& checkpoint, int& exit_code);
void add_checkpoint_diff(CLI::App& checkpoint, int& exit_code);
void add_checkpoint_convert(CLI::App& checkpoint, int& exit_code);
void add_checkpoint_list(CLI::App& checkpoint, int& exit_code);
void add_checkpoint_verify(CLI::App& checkpoint, int& exit_code);

/// Says what a path may be.
inline constexpr const char* kCheckpointPath =
    "checkpoints/step-N, a run directory (its newest checkpoint), a model.safetensors or its index";

/// Returns the complete checkpoints by step in a run directory or a directory of checkpoints; none
/// if the path is no directory.
std::map<std::int64_t, std::filesystem::path> checkpoints_in(const std::filesystem::path& path);

/// "out/checkpoints/step-20 (checkpoint of step 20)"
std::string title_of(const StoredTensors& stored);

/// Text of a file, fit for a terminal.
std::string shown(std::string_view text);

/// The text that is printed for a JSON value.
std::string json_text(const nlohmann::ordered_json& value);

}  // namespace trireme::cli
