#include "trireme/formats/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "trireme/base/error.h"
#include "trireme/formats/gzip.h"
#include "trireme/formats/json_error.h"
#include "trireme/formats/json_limits.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/tokenizer/bpe_tokenizer.h"
#include "trireme/formats/tokenizer/bytes.h"
#include "trireme/formats/tokenizer/characters.h"
#include "trireme/formats/whole_text.h"

namespace trireme {

namespace {

constexpr JsonLimits kTokenizerLimits = {
    .bytes = std::size_t{64} << 20, .depth = 32, .values = 8'000'000};

std::unique_ptr<Tokenizer> own_tokenizer(const nlohmann::json& json) {
  const auto type = json.at("type").get<std::string>();
  if (type == "bytes") return byte_tokenizer();
  if (type == "characters") {
    std::set<char32_t> characters;
    collect_characters(json.at("characters").get<std::string>(), characters);
    return character_tokenizer(characters);
  }
  throw DataError(fmt::format("type must be \"bytes\" or \"characters\", got {}", printable(type)));
}

std::unique_ptr<Tokenizer> make_tokenizer(const nlohmann::json& json) {
  if (!json.is_object()) throw DataError("it must be a JSON object");
  if (json.contains("type")) return own_tokenizer(json);
  if (json.contains("bpe_ranks")) return bpe_tokenizer(parts_of_tiktoken(json));
  if (json.contains("model")) return bpe_tokenizer(parts_of_huggingface(json));
  throw DataError(
      "it has neither the \"model\" of Hugging Face's tokenizer.json nor the \"bpe_ranks\" of an "
      "encoder of the npm package tiktoken");
}

}  // namespace

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  const TextFrame around = frame();
  std::vector<std::int32_t> ids = around.before;
  append(text, special, ids);
  ids.insert(ids.end(), around.after.begin(), around.after.end());
  return ids;
}

std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view json, std::string_view name) {
  check_json_limits(json, kTokenizerLimits, name);
  try {
    return make_tokenizer(nlohmann::json::parse(json));
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("{}: not a tokenizer: {}", name, reason_of(error)));
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: not a tokenizer that is known: {}", name, error.what()));
  }
}

std::unique_ptr<Tokenizer> read_tokenizer(const std::filesystem::path& path) {
  return tokenizer_from_json(
      whole_text(*open_maybe_gzip(path), path.string(), kTokenizerLimits.bytes), path.string());
}

}  // namespace trireme
