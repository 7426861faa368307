#include "trireme/formats/tokenizer/token_decoder.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "trireme/formats/tokenizer/byte_level.h"
#include "trireme/formats/tokenizer/huggingface_json.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

class BlankBetweenDecoder final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t i = 1; i < tokens.size(); ++i) {
      std::string spaced = " ";
      tokens[i] = spaced.append(tokens[i]);
    }
  }
};

class ByteLevelDecoder final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      if (auto bytes = bytes_of_byte_level(token)) token = std::move(*bytes);
    }
  }
};

class MetaspaceDecoder final : public TokenDecoder {
 public:
  MetaspaceDecoder(const std::string& replacement, bool drops_first)
      : replacement_(literal_pattern(replacement)), drops_first_(drops_first) {}

  void apply(std::vector<std::string>& tokens) const override {
    bool is_first = true;
    for (std::string& token : tokens) {
      token = replace_all(token, *replacement_, is_first && drops_first_ ? "" : " ");
      is_first = false;
    }
  }

 private:
  std::unique_ptr<Pattern> replacement_;
  bool drops_first_;
};

class ByteFallbackDecoder final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) {
      if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) continue;
      unsigned char byte = 0;
      const char* end = token.data() + 5;
      if (std::from_chars(token.data() + 3, end, byte, 16).ptr != end) continue;
      token = static_cast<char>(byte);
    }
  }
};

class FuseDecoder final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string all;
    for (const std::string& token : tokens) all += token;
    tokens = {std::move(all)};
  }
};

class StripDecoder final : public TokenDecoder {
 public:
  explicit StripDecoder(const nlohmann::json& json)
      : content_(json.at("content")), start_(json.at("start")), stop_(json.at("stop")) {}

  void apply(std::vector<std::string>& tokens) const override {
    if (content_.empty()) return;
    for (std::string& token : tokens) {
      std::string_view left = token;
      for (std::int64_t i = 0; i < start_ && left.starts_with(content_); ++i) {
        left.remove_prefix(content_.size());
      }
      for (std::int64_t i = 0; i < stop_ && left.ends_with(content_); ++i) {
        left.remove_suffix(content_.size());
      }
      token = std::string(left);
    }
  }

 private:
  std::string content_;
  std::int64_t start_;
  std::int64_t stop_;
};

class ReplaceDecoder final : public TokenDecoder {
 public:
  explicit ReplaceDecoder(const nlohmann::json& json)
      : pattern_(pattern_of(json.at("pattern"))), content_(json.at("content")) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) token = replace_all(token, *pattern_, content_);
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string content_;
};

class SequenceDecoder final : public TokenDecoder {
 public:
  explicit SequenceDecoder(const nlohmann::json& list) {
    for (const auto& json : list) parts_.push_back(token_decoder_of(json));
  }
  void apply(std::vector<std::string>& tokens) const override {
    for (const auto& part : parts_) part->apply(tokens);
  }

 private:
  std::vector<std::unique_ptr<TokenDecoder>> parts_;
};

std::unique_ptr<TokenDecoder> metaspace_decoder(const nlohmann::json& json) {
  const bool drops_first = json.contains("prepend_scheme") ? json["prepend_scheme"] != "never"
                                                           : json.value("add_prefix_space", true);
  return std::make_unique<MetaspaceDecoder>(json.at("replacement"), drops_first);
}

}  // namespace

std::unique_ptr<TokenDecoder> token_decoder_of(const nlohmann::json& json) {
  if (json.is_null()) return std::make_unique<BlankBetweenDecoder>();
  const std::string type = type_of(json, "decoder");
  if (type == "ByteLevel") return std::make_unique<ByteLevelDecoder>();
  if (type == "Metaspace") return metaspace_decoder(json);
  if (type == "ByteFallback") return std::make_unique<ByteFallbackDecoder>();
  if (type == "Fuse") return std::make_unique<FuseDecoder>();
  if (type == "Strip") return std::make_unique<StripDecoder>(json);
  if (type == "Replace") return std::make_unique<ReplaceDecoder>(json);
  if (type == "Sequence") return std::make_unique<SequenceDecoder>(json.at("decoders"));
  throw unknown_component("decoder", type,
                          "ByteLevel, Metaspace, ByteFallback, Fuse, Strip, Replace and Sequence");
}

}  // namespace trireme
