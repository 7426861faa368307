#pragma once

#include <string>
#include <string_view>

namespace trireme {

// Checks of options. Each throws a UsageError such as `adam: beta1 must be in [0, 1), got 1.2`; a
// NaN never passes.

void require_positive(std::string_view who, std::string_view option, double value);
void require_not_negative(std::string_view who, std::string_view option, double value);
void require_fraction(std::string_view who, std::string_view option, double value);

}  // namespace trireme
