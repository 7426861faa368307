#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "trireme/checkpoint/stored_tensors.h"

namespace trireme::cli {

// Each adds one subcommand to `trireme checkpoint`.
void add_checkpoint_inspect(CLI::App& checkpoint, int& exit_code);
void add_checkpoint_diff(CLI::App& checkpoint, int& exit_code);
void add_checkpoint_convert(CLI::App& checkpoint, int& exit_code);

/// Says what a path may be.
inline constexpr const char* kCheckpointPath =
    "checkpoints/step-N, a run directory (its newest checkpoint), a model.safetensors or its index";

/// "out/checkpoints/step-20 (checkpoint of step 20)"
std::string title_of(const StoredTensors& stored);

/// Text of a file, fit for a terminal.
std::string shown(std::string_view text);

/// The text that is printed for a JSON value.
std::string json_text(const nlohmann::ordered_json& value);

}  // namespace trireme::cli
