#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trireme/config/key.h"

namespace trireme {

// What the value of a key may be.

// A larger number is a typing error, and products of two would overflow.
constexpr std::int64_t kMaxSamples = std::int64_t{1} << 42;
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 31;
constexpr std::int64_t kMaxSteps = 1'000'000;
constexpr std::int64_t kMaxRanks = 1 << 16;

ConfigKey::Rule anything();
ConfigKey::Rule number_rule(std::string wanted, std::function<bool(double)> allowed);
ConfigKey::Rule positive();
ConfigKey::Rule not_negative();
ConfigKey::Rule at_least(double least);
ConfigKey::Rule positive_up_to(std::int64_t most);
ConfigKey::Rule up_to(std::int64_t most);
ConfigKey::Rule fraction();  ///< in [0, 1)
ConfigKey::Rule path();      ///< not empty
ConfigKey::Rule one_of(std::vector<std::string> allowed);
ConfigKey::Rule positive_integers();
ConfigKey::Rule positive_numbers();
ConfigKey::Rule betas();

}  // namespace trireme
