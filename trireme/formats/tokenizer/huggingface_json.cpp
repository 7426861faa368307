#include "trireme/formats/tokenizer/huggingface_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trireme/formats/printable.h"

namespace trireme {

std::string type_of(const nlohmann::json& component, std::string_view kind) {
  if (component.is_object() && component.contains("type") && component["type"].is_string()) {
    return component["type"];
  }
  throw DataError(fmt::format("the {} must be an object with a \"type\"", kind));
}

DataError unknown_component(std::string_view kind, const std::string& type,
                            std::string_view known) {
  return DataError(
      fmt::format("the {} {} is not known; known are {}", kind, printable(type), known));
}

std::unique_ptr<Pattern> pattern_of(const nlohmann::json& json) {
  if (json.contains("String")) return literal_pattern(json["String"]);
  return compile_pattern(json.at("Regex"));
}

std::string replace_all(std::string_view text, const Pattern& pattern, std::string_view content) {
  std::string result;
  std::size_t done = 0;
  pattern.for_each_match(text, [&](std::size_t begin, std::size_t end) {
    result += text.substr(done, begin - done);
    result += content;
    done = end;
  });
  return result.append(text.substr(done));
}

}  // namespace trireme
