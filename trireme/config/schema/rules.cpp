#include "trireme/config/schema/rules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace trireme {

namespace {

double number(const ConfigKey::Target& value) {
  if (const auto* integer = std::get_if<std::int64_t*>(&value)) {
    return static_cast<double>(**integer);
  }
  if (const auto* duration = std::get_if<Duration*>(&value)) return (*duration)->seconds;
  if (const auto* optional = std::get_if<std::optional<double>*>(&value)) return ***optional;
  return *std::get<double*>(value);
}

}  // namespace

ConfigKey::Rule number_rule(std::string wanted, std::function<bool(double)> allowed) {
  return [=](const ConfigKey::Target& value) -> std::optional<std::string> {
    if (allowed(number(value))) return std::nullopt;
    return wanted;
  };
}

ConfigKey::Rule anything() {
  return [](const ConfigKey::Target&) { return std::optional<std::string>(); };
}

ConfigKey::Rule positive() {
  return number_rule("a positive number", [](double x) { return x > 0 && std::isfinite(x); });
}

ConfigKey::Rule not_negative() {
  return number_rule("zero or a positive number",
                     [](double x) { return x >= 0 && std::isfinite(x); });
}

ConfigKey::Rule at_least(double least) {
  return number_rule(fmt::format("{} or more", least), [=](double x) { return x >= least; });
}

ConfigKey::Rule positive_up_to(std::int64_t most) {
  return number_rule(fmt::format("a number from 1 to {}", most),
                     [most](double x) { return x >= 1 && x <= static_cast<double>(most); });
}

ConfigKey::Rule up_to(std::int64_t most) {
  return number_rule(fmt::format("a number from 0 to {}", most),
                     [most](double x) { return x >= 0 && x <= static_cast<double>(most); });
}

ConfigKey::Rule path() {
  return [](const ConfigKey::Target& value) -> std::optional<std::string> {
    if (!std::get<std::string*>(value)->empty()) return std::nullopt;
    return "a path";
  };
}

ConfigKey::Rule fraction() {
  return number_rule("in [0, 1)", [](double x) { return x >= 0 && x < 1; });
}

ConfigKey::Rule one_of(std::vector<std::string> allowed) {
  return [=](const ConfigKey::Target& value) -> std::optional<std::string> {
    const std::string& text = *std::get<std::string*>(value);
    if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) return std::nullopt;
    return fmt::format("one of \"{}\"", fmt::join(allowed, "\", \""));
  };
}

ConfigKey::Rule positive_integers() {
  return [](const ConfigKey::Target& value) -> std::optional<std::string> {
    const auto& list = *std::get<std::vector<std::int64_t>*>(value);
    const bool good = std::all_of(list.begin(), list.end(),
                                  [](std::int64_t x) { return x > 0 && x <= kMaxWidth; });
    if (good) return std::nullopt;
    return fmt::format("a list of integers from 1 to {}", kMaxWidth);
  };
}

ConfigKey::Rule positive_numbers() {
  return [](const ConfigKey::Target& value) -> std::optional<std::string> {
    const auto& list = *std::get<std::vector<double>*>(value);
    if (std::all_of(list.begin(), list.end(), [](double x) { return x > 0 && std::isfinite(x); })) {
      return std::nullopt;
    }
    return "a list of positive numbers";
  };
}

ConfigKey::Rule betas() {
  return [](const ConfigKey::Target& value) -> std::optional<std::string> {
    const auto& list = *std::get<std::vector<double>*>(value);
    const bool good = list.size() == 2 && std::all_of(list.begin(), list.end(),
                                                      [](double b) { return b >= 0 && b < 1; });
    if (good) return std::nullopt;
    return "two numbers in [0, 1)";
  };
}

}  // namespace trireme
