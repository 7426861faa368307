#include "trireme/optim/requirements.h"

#include <fmt/format.h>

#include <cmath>

#include "trireme/base/error.h"

namespace trireme {

namespace {

[[noreturn]] void refuse(std::string_view who, std::string_view option, std::string_view wanted,
                         double value) {
  throw UsageError(fmt::format("{}: {} must {}, got {}", who, option, wanted, value));
}

}  // namespace

void require_positive(std::string_view who, std::string_view option, double value) {
  if (!(value > 0 && std::isfinite(value))) refuse(who, option, "be a positive number", value);
}

void require_not_negative(std::string_view who, std::string_view option, double value) {
  if (!(value >= 0 && std::isfinite(value))) refuse(who, option, "be at least 0", value);
}

void require_fraction(std::string_view who, std::string_view option, double value) {
  if (!(value >= 0 && value < 1)) refuse(who, option, "be in [0, 1)", value);
}

}  // namespace trireme
