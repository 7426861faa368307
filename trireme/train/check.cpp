#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "trireme/base/error.h"
#include "trireme/formats/safetensors_index.h"
#include "trireme/plan/resolve.h"
#include "trireme/train/run_directory.h"
#include "trireme/train/train.h"

namespace trireme {

namespace {

// Where a file of Fashion-MNIST that is not at `path` can be had; empty for other files.
std::string way_to_get(const std::filesystem::path& path) {
  if (path.string().find("fashion-mnist") == std::string::npos) return "";
  const auto packaged = "/usr/share/datasets/fashion-mnist" / path.filename();
  if (path == packaged) return "; apt-get install dataset-fashion-mnist";
  std::error_code ignored;
  if (std::filesystem::exists(packaged, ignored))
    return fmt::format("; there is {}", packaged.string());
  return "; make run in trireme's sources fetches it, and `trireme init` then writes its path";
}

void require_file(std::string_view key, const std::string& path) {
  if (path.empty()) throw UsageError(fmt::format("{} must name a file, got nothing", key));
  std::error_code error;  // of a folder on the way that may not be searched
  const auto kind = std::filesystem::status(path, error).type();
  if (kind == std::filesystem::file_type::not_found) {
    throw DataError(fmt::format("{}: no such file: {}{}", key, path, way_to_get(path)));
  }
  if (error) {
    throw DataError(
        fmt::format("{}: cannot look at {}: {}", key, path, std::strerror(error.value())));
  }
  if (kind == std::filesystem::file_type::directory) {
    throw DataError(fmt::format("{} must name a file, {} is a folder", key, path));
  }
  // The data is read more than once, and to open a FIFO waits for its other end.
  if (kind != std::filesystem::file_type::regular) {
    throw DataError(
        fmt::format("{} must name a file, {} is a FIFO, a socket or a device", key, path));
  }
}

void require_different_separators(const Config::Data& data) {
  if (data.decimal == data.thousands) {
    throw UsageError(
        fmt::format("data.decimal and data.thousands must differ, are both \"{}\"", data.decimal));
  }
  for (const auto& [key, text] :
       {std::pair("data.decimal", data.decimal), std::pair("data.thousands", data.thousands)}) {
    if (text != data.delimiter) continue;
    throw UsageError(fmt::format("{} and data.delimiter must differ, are both \"{}\"", key, text));
  }
}

void check_data(const Config::Data& data) {
  if (data.format == "csv") {
    require_file("data.path", data.path);
    if (data.target.empty()) {
      throw UsageError("data.target must name the column to predict, got nothing");
    }
    if (!data.test_path.empty()) require_file("data.test_path", data.test_path);
    require_different_separators(data);
  } else if (data.format == "text" || data.format == "tokens") {
    if (data.format == "tokens" || !data.path.empty()) require_file("data.path", data.path);
    if (!data.test_path.empty()) require_file("data.test_path", data.test_path);
    if (data.format == "text" && data.tokenizer != "characters" && data.tokenizer != "bytes") {
      require_file("data.tokenizer", data.tokenizer);
    }
  } else if (data.format == "idx") {
    require_file("data.images", data.images);
    require_file("data.labels", data.labels);
    if (!data.test_images.empty() || !data.test_labels.empty()) {
      require_file("data.test_images", data.test_images);
      require_file("data.test_labels", data.test_labels);
    }
  }
  const bool has_test = !data.test_path.empty() || !data.test_images.empty();
  if (has_test && data.holdout > 0) {
    throw UsageError(
        "data.holdout and a test file exclude each other: choose one set to evaluate on");
  }
}

void check_weights(const Config& config) {
  const std::filesystem::path weights = safetensors_file_or_index(config.model.weights);
  require_file("model.weights", weights.string());
  const std::filesystem::path own = RunDirectory{config.run.directory}.model();
  for (const std::filesystem::path& replaced : {own, safetensors_index_of(own)}) {
    std::error_code error;
    if (!std::filesystem::equivalent(weights, replaced, error)) continue;
    throw UsageError(
        fmt::format("model.weights must lie outside of run.directory, got {}, which the run "
                    "replaces; choose another run.directory",
                    config.model.weights));
  }
}

void check_mirror(const Config& config) {
  if (config.checkpoint.mirror.empty()) return;
  const auto normal = [](const std::filesystem::path& path) {
    const auto whole = std::filesystem::absolute(path).lexically_normal();
    return whole.has_filename() ? whole : whole.parent_path();
  };
  const RunDirectory run{config.run.directory};
  const std::filesystem::path mirror = normal(config.checkpoint.mirror);
  if (mirror != normal(run.checkpoints()) && mirror != normal(run.root)) return;
  throw UsageError(
      fmt::format("checkpoint.mirror must be a folder of its own, better on another disk, got {}, "
                  "where the run "
                  "writes its checkpoints",
                  config.checkpoint.mirror));
}

}  // namespace

plan::RunPlan check(const Config& config, int ranks) {
  plan::RunPlan plan = plan::resolve(config, ranks);
  check_data(config.data);
  check_mirror(config);
  if (config.model.name == "torchscript") require_file("model.path", config.model.path);
  if (!config.model.weights.empty()) check_weights(config);
  return plan;
}

}  // namespace trireme
