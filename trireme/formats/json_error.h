#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace trireme {

/// Returns what is wrong with a text, without the library's own marks: "it is not JSON from byte 17
/// on", "key 'step' not found".
std::string reason_of(const nlohmann::json::exception& error);

}  // namespace trireme
