#pragma once

#include <filesystem>
#include <string>

namespace trireme {

/// Where one run's files lie.
struct RunDirectory {
  std::filesystem::path root;

  std::filesystem::path config() const { return root / "config.toml"; }
  std::filesystem::path metrics() const { return root / "metrics.jsonl"; }
  std::filesystem::path model() const { return root / "model.safetensors"; }
  std::filesystem::path standardization() const { return root / "standardization.safetensors"; }
  std::filesystem::path logs() const { return root / "logs"; }
  std::filesystem::path checkpoints() const { return root / "checkpoints"; }
  /// Checkpoints of the state that only this rank has.
  std::filesystem::path local_checkpoints(int rank) const {
    return checkpoints() / ("rank-" + std::to_string(rank));
  }
};

}  // namespace trireme
