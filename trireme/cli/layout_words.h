#pragma once

#include <string>
#include <vector>

namespace trireme::cli {

/// A layout as `trireme verify` takes it: one word whose parts are joined by commas, such as
/// "shard=2,ranks=3".
struct Layout {
  std::string text;
  int ranks = 0;
  std::vector<std::string> overrides;  ///< "parallelism.shard=2"
};

/// The ranks of a layout without a part `ranks`.
inline constexpr int kUsualLayoutRanks = 2;

/// Returns true for a word that is a layout and not an override section.key=value.
bool is_layout(const std::string& word);

/// Reads the word `text`; without a part `ranks` the layout has `usual_ranks`. Throws UsageError
/// for an unknown or repeated part, and for one without a value.
Layout parse_layout(const std::string& text, int usual_ranks);

}  // namespace trireme::cli
