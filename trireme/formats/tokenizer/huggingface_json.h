#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/pattern.h"

namespace trireme {

// What the components of Hugging Face's tokenizer.json have in common.

/// The type of a component. Throws DataError, which names the `kind` of component, if it has none.
std::string type_of(const nlohmann::json& component, std::string_view kind);

/// An error that names the component and those that are known.
DataError unknown_component(std::string_view kind, const std::string& type, std::string_view known);

/// The pattern of {"String": ...} or {"Regex": ...}.
std::unique_ptr<Pattern> pattern_of(const nlohmann::json& json);

std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content);

}  // namespace trireme
