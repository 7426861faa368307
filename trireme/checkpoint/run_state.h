#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>

namespace trireme {

/// What a checkpoint holds besides tensors. Texts are UTF-8, doubles are finite.
struct RunState {
  using Value = std::variant<bool, std::int64_t, double, std::string>;
  using Section = std::map<std::string, Value>;

  std::int64_t step = 0;
  /// Texts by name. Those of rank 0 are saved.
  std::map<std::string, std::string> metadata = {};
  /// Typed values by section and name. Those of all ranks are saved. A reader ignores the sections
  /// that it does not know.
  std::map<std::string, Section> sections = {};
};

// Names of sections.
namespace sections {
inline constexpr const char* kConfiguration = "configuration";  ///< "toml": the resolved text
inline constexpr const char* kData = "data";                    ///< "digest": text
inline constexpr const char* kModel = "model";            ///< "path", "weights": SHA-256 of files
inline constexpr const char* kEvaluation = "evaluation";  ///< by metric: "loss", "accuracy", ...
inline constexpr const char* kRandom = "random";          ///< by generator
inline constexpr const char* kSchedule = "schedule";    ///< "last_step", "skipped_steps": integers
inline constexpr const char* kPrecision = "precision";  ///< "loss_scale" and its steps
inline constexpr const char* kStages = "stages";  ///< by parameter: the index of its pipeline stage
inline constexpr const char* kTied = "tied";      ///< by parameter: the one that it is the same as
}  // namespace sections

}  // namespace trireme
