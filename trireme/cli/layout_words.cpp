#include "trireme/cli/layout_words.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <map>
#include <sstream>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/base/text.h"

namespace trireme::cli {

namespace {

constexpr int kMostRanks = 255;  // a host has one more: the reference

// A part's name and the key that it sets; "": the number of ranks.
const std::map<std::string, std::string> kParts = {{"ranks", ""},
                                                   {"shard", "parallelism.shard"},
                                                   {"shard_within", "parallelism.shard_within"},
                                                   {"strategy", "parallelism.strategy"},
                                                   {"recompute", "parallelism.recompute"}};

std::vector<std::string> names_of_parts() {
  std::vector<std::string> names;
  for (const auto& [name, key] : kParts) names.push_back(name);
  return names;
}

int ranks_of(const std::string& layout, const std::string& value) {
  int ranks = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), ranks);
  if (error == std::errc() && end == value.data() + value.size() && ranks >= 1 &&
      ranks <= kMostRanks) {
    return ranks;
  }
  throw UsageError(fmt::format("verify: layout {}: ranks must be a number from 1 to {}, got \"{}\"",
                               layout, kMostRanks, value));
}

[[noreturn]] void refuse_part(const std::string& layout, const std::string& name) {
  const auto names = names_of_parts();
  const std::string guess = nearest(name, names);
  throw UsageError(fmt::format("verify: layout {}: no part \"{}\"; {}", layout, name,
                               guess.empty()
                                   ? fmt::format("the parts are {}", fmt::join(names, ", "))
                                   : fmt::format("did you mean {}?", guess)));
}

}  // namespace

bool is_layout(const std::string& word) {
  const auto equals = word.find('=');
  return equals != std::string::npos && word.find('.') > equals;
}

Layout parse_layout(const std::string& text, int usual_ranks) {
  Layout layout{.text = text};
  std::map<std::string, std::string> values;
  std::istringstream parts(text + ",");
  for (std::string part; std::getline(parts, part, ',');) {
    const auto equals = part.find('=');
    if (equals == std::string::npos || equals + 1 == part.size()) {
      throw UsageError(fmt::format(
          "verify: layout {}: each part must be name=value, got \"{}\"; such as shard=2,ranks=3",
          text, part));
    }
    const std::string name = part.substr(0, equals);
    const auto known = kParts.find(name);
    if (known == kParts.end()) refuse_part(text, name);
    const std::string value = part.substr(equals + 1);
    if (!values.emplace(name, value).second) {
      throw UsageError(fmt::format("verify: layout {}: {} comes twice", text, name));
    }
    if (!known->second.empty()) layout.overrides.push_back(known->second + "=" + value);
  }
  layout.ranks = values.contains("ranks") ? ranks_of(text, values["ranks"]) : usual_ranks;
  return layout;
}

}  // namespace trireme::cli
