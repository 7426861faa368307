#include <fmt/format.h>
#include <sodium/utils.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/tokenizer/bpe_tokenizer.h"

namespace trireme {

namespace {

using TiktokenIds = std::unordered_map<std::string, std::int32_t>;

std::string decode_base64(const std::string& text) {
  std::string bytes(text.size(), '\0');
  std::size_t size = 0;
  const int failed =
      sodium_base642bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), text.data(),
                        text.size(), nullptr, &size, nullptr, sodium_base64_VARIANT_ORIGINAL);
  if (failed != 0 || size == 0) {
    throw DataError(fmt::format("a token must be base64, got {}", printable(text)));
  }
  bytes.resize(size);
  return bytes;
}

// Lines of an exclamation mark, the number of the first token, and tokens in base64.
TiktokenIds read_ranks(const std::string& text) {
  TiktokenIds ids;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    std::int32_t id = 0;
    if (!(words >> word >> id) || word != "!" || id < 0) {
      throw DataError(fmt::format("bpe_ranks must have lines of \"!\", a number and tokens, got {}",
                                  printable(line)));
    }
    while (words >> word) {
      if (id == INT32_MAX) throw DataError("bpe_ranks numbers a token 2^31 - 1, which is too much");
      ids[decode_base64(word)] = id++;
    }
  }
  return ids;
}

// tiktoken merges any two neighbors that together are a token, the token of lowest number first.
std::vector<Merge> possible_merges(const TiktokenIds& ids) {
  std::vector<Merge> merges;
  for (const auto& [token, id] : ids) {
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(token.substr(cut));
      if (right != ids.end()) merges.push_back({left->second, right->second, id, id});
    }
  }
  return merges;
}

}  // namespace

BpeParts parts_of_tiktoken(const nlohmann::json& json) {
  BpeParts parts;
  parts.tables.ids = read_ranks(json.at("bpe_ranks"));
  parts.tables.merges = possible_merges(parts.tables.ids);
  parts.tables.whole_pieces = true;
  parts.pre_tokenizer = byte_pieces(json.at("pat_str"));
  for (const auto& [token, id] : parts.tables.ids) parts.texts[id] = token;
  for (const auto& [content, id] : json.at("special_tokens").items()) {
    const auto number = id.get<std::int64_t>();
    if (number < 0 || number > INT32_MAX - 1) {
      throw DataError(
          fmt::format("the number of {} must be below 2^31, is {}", printable(content), number));
    }
    parts.added.push_back(
        {.content = content, .id = static_cast<std::int32_t>(number), .special = true});
  }
  parts.json = json.dump();
  return parts;
}

}  // namespace trireme
