#include "trireme/formats/tokenizer/normalizer.h"

#include <fmt/format.h>
#include <unicode/unorm2.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/huggingface_json.h"
#include "trireme/formats/tokenizer/utf16.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

class Nfc final : public Normalizer {
 public:
  std::string apply(std::string_view text) const override {
    // Characters below U+0300 are composed and do not combine.
    const auto may_change = [](char c) { return static_cast<unsigned char>(c) >= 0xCC; };
    if (std::ranges::none_of(text, may_change)) return std::string(text);
    UErrorCode error = U_ZERO_ERROR;
    const UNormalizer2* nfc = unorm2_getNFCInstance(&error);
    const std::u16string units = utf16_of(text);
    std::u16string composed(units.size() + 16, u'\0');
    const auto normalize = [&] {
      error = U_ZERO_ERROR;
      return unorm2_normalize(nfc, units.data(), static_cast<std::int32_t>(units.size()),
                              composed.data(), static_cast<std::int32_t>(composed.size()), &error);
    };
    auto size = static_cast<std::size_t>(normalize());
    if (error == U_BUFFER_OVERFLOW_ERROR) {
      composed.resize(size);
      size = static_cast<std::size_t>(normalize());
    }
    if (U_FAILURE(error)) throw DataError(fmt::format("NFC: {}", u_errorName(error)));
    composed.resize(size);
    return utf8_of(composed);
  }
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string apply(std::string_view text) const override {
    return text.empty() ? std::string() : prefix_ + std::string(text);
  }

 private:
  std::string prefix_;
};

class ReplaceNormalizer final : public Normalizer {
 public:
  explicit ReplaceNormalizer(const nlohmann::json& json)
      : pattern_(pattern_of(json.at("pattern"))), content_(json.at("content")) {}
  std::string apply(std::string_view text) const override {
    return replace_all(text, *pattern_, content_);
  }

 private:
  std::unique_ptr<Pattern> pattern_;
  std::string content_;
};

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(const nlohmann::json& list) {
    for (const auto& json : list) parts_.push_back(normalizer_of(json));
  }
  std::string apply(std::string_view text) const override {
    std::string result(text);
    for (const auto& part : parts_) result = part->apply(result);
    return result;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

}  // namespace

std::unique_ptr<Normalizer> normalizer_of(const nlohmann::json& json) {
  if (json.is_null()) return nullptr;
  const std::string type = type_of(json, "normalizer");
  if (type == "NFC") return std::make_unique<Nfc>();
  if (type == "Prepend") return std::make_unique<Prepend>(json.at("prepend"));
  if (type == "Replace") return std::make_unique<ReplaceNormalizer>(json);
  if (type == "Sequence") return std::make_unique<NormalizerSequence>(json.at("normalizers"));
  throw unknown_component("normalizer", type, "NFC, Prepend, Replace and Sequence");
}

}  // namespace trireme
