#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/tokenizer/bpe_tokenizer.h"
#include "trireme/formats/tokenizer/byte_level.h"
#include "trireme/formats/tokenizer/huggingface_json.h"

namespace trireme {

namespace {

using HubJson = nlohmann::json;
using HubVocabulary = std::unordered_map<std::string, std::int32_t>;

std::int32_t token_id(const HubJson& json, std::string_view token) {
  const bool fits = json.is_number_integer() && json >= 0 && json < INT32_MAX;
  if (fits) return json.get<std::int32_t>();
  throw DataError(fmt::format("the number of {} must be from 0 to {}, got {}", printable(token),
                              INT32_MAX - 1, printable(json.dump())));
}

// Members that change what a tokenizer does, and may only be absent or one of these values.
void require_plain(const HubJson& json, const char* member, const std::vector<HubJson>& plain) {
  if (!json.contains(member) || json[member].is_null()) return;
  for (const HubJson& value : plain) {
    if (json[member] == value) return;
  }
  throw DataError(fmt::format("{} must be {}, is {}", member, plain.empty() ? "null" : "off",
                              printable(json[member].dump())));
}

std::vector<AddedToken> added_tokens_of(const HubJson& list) {
  std::vector<AddedToken> tokens;
  for (const HubJson& json : list) {
    const std::string content = json.at("content");
    tokens.push_back({.content = content,
                      .id = token_id(json.at("id"), content),
                      .special = json.value("special", false),
                      .normalized = json.value("normalized", false),
                      .single_word = json.value("single_word", false),
                      .lstrip = json.value("lstrip", false),
                      .rstrip = json.value("rstrip", false)});
  }
  return tokens;
}

// "a b" or ["a", "b"].
std::pair<std::string, std::string> merge_pair(const HubJson& merge) {
  if (merge.is_array() && merge.size() == 2) return {merge[0], merge[1]};
  const std::string text = merge;
  const std::size_t blank = text.find(' ');
  if (blank != std::string::npos && blank == text.rfind(' ')) {
    return {text.substr(0, blank), text.substr(blank + 1)};
  }
  throw DataError(fmt::format("a merge must be two tokens, got {}", printable(text)));
}

std::vector<Merge> listed_merges(const HubJson& list, const HubVocabulary& vocabulary) {
  std::vector<Merge> merges;
  const auto token = [&](const std::string& text) {
    const auto found = vocabulary.find(text);
    if (found != vocabulary.end()) return found->second;
    throw DataError(fmt::format("merge {} needs the token {}, which is not in the vocabulary",
                                merges.size(), printable(text)));
  };
  for (const HubJson& merge : list) {
    const auto [left, right] = merge_pair(merge);
    merges.push_back(
        {token(left), token(right), static_cast<std::int32_t>(merges.size()), token(left + right)});
  }
  return merges;
}

HubVocabulary vocabulary_of(const HubJson& json) {
  HubVocabulary vocabulary;
  for (const auto& [token, id] : json.items()) vocabulary[token] = token_id(id, token);
  return vocabulary;
}

// The tokens by the bytes that they stand for; what is written in other characters cannot occur.
HubVocabulary by_bytes(const HubVocabulary& vocabulary) {
  HubVocabulary result;
  for (const auto& [token, id] : vocabulary) {
    if (auto bytes = bytes_of_byte_level(token)) result[std::move(*bytes)] = id;
  }
  return result;
}

BpeTables tables_of(const HubJson& model, const HubVocabulary& vocabulary, bool bytes) {
  require_plain(model, "dropout", {0.0});
  require_plain(model, "continuing_subword_prefix", {""});
  require_plain(model, "end_of_word_suffix", {""});
  BpeTables tables;
  tables.bytes = bytes;
  tables.ids = bytes ? by_bytes(vocabulary) : vocabulary;
  tables.merges = listed_merges(model.at("merges"), vocabulary);
  tables.whole_pieces = model.value("ignore_merges", false);
  tables.byte_fallback = model.value("byte_fallback", false);
  tables.fuse_unknown = model.value("fuse_unk", false);
  if (model.contains("unk_token") && !model["unk_token"].is_null()) {
    const auto found = vocabulary.find(model["unk_token"].get<std::string>());
    if (found != vocabulary.end()) tables.unknown = found->second;
  }
  return tables;
}

TextFrame frame_of_template(const HubJson& json) {
  TextFrame frame;
  bool is_behind_text = false;
  for (const HubJson& part : json.at("single")) {
    if (part.contains("Sequence")) {
      is_behind_text = true;
      continue;
    }
    const std::string name = part.at("SpecialToken").at("id");
    for (const HubJson& id : json.at("special_tokens").at(name).at("ids")) {
      (is_behind_text ? frame.after : frame.before).push_back(token_id(id, name));
    }
  }
  return frame;
}

TextFrame frame_of(const HubJson& json) {
  if (json.is_null()) return {};
  const std::string type = type_of(json, "post_processor");
  if (type == "TemplateProcessing") return frame_of_template(json);
  if (type == "ByteLevel") return {};  // moves offsets, which encode() does not return
  if (type == "Sequence") {
    TextFrame frame;
    for (const HubJson& part : json.at("processors")) {
      const TextFrame inner = frame_of(part);
      frame.before.insert(frame.before.begin(), inner.before.begin(), inner.before.end());
      frame.after.insert(frame.after.end(), inner.after.begin(), inner.after.end());
    }
    return frame;
  }
  throw unknown_component("post_processor", type, "ByteLevel, TemplateProcessing and Sequence");
}

}  // namespace

BpeParts parts_of_huggingface(const HubJson& json) {
  const HubJson& model = json.at("model");
  // Files of before 2020 have no type.
  if (const std::string type = model.value("type", "BPE"); type != "BPE") {
    throw unknown_component("model", type, "BPE");
  }
  require_plain(json, "truncation", {});
  require_plain(json, "padding", {});
  const auto component = [&](const char* name) { return json.value(name, HubJson()); };
  BpeParts parts;
  parts.added = added_tokens_of(json.value("added_tokens", HubJson::array()));
  parts.normalizer = normalizer_of(component("normalizer"));
  parts.pre_tokenizer = pre_tokenizer_of(component("pre_tokenizer"));
  const HubVocabulary vocabulary = vocabulary_of(model.at("vocab"));
  const bool bytes = parts.pre_tokenizer && parts.pre_tokenizer->is_byte_level();
  parts.tables = tables_of(model, vocabulary, bytes);
  parts.frame = frame_of(component("post_processor"));
  for (const auto& [token, id] : vocabulary) parts.texts[id] = token;
  parts.decoder = token_decoder_of(component("decoder"));
  parts.json = json.dump();
  return parts;
}

}  // namespace trireme
