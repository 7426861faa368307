#include "trireme/formats/tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "trireme/formats/printable.h"
#include "trireme/formats/tokenizer/huggingface_json.h"

namespace trireme {

namespace {

// A match of a pattern, or what is between two.
struct Part {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool is_match = false;
};

// Calls `use` with all parts of `text`.
template <class Use>
void for_each_part(std::string_view text, const Pattern& pattern, const Use& use) {
  std::size_t done = 0;
  pattern.for_each_match(text, [&](std::size_t begin, std::size_t end) {
    if (begin > done) use(Part{done, begin, false});
    use(Part{begin, end, true});
    done = end;
  });
  if (done < text.size()) use(Part{done, text.size(), false});
}

TextPiece part_of(TextPiece piece, std::size_t begin, std::size_t end) {
  return {piece.text.substr(begin, end - begin), piece.begins_text && begin == 0};
}

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior behavior_of(const std::string& name) {
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  throw unknown_component("behavior of Split", name,
                          "Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous");
}

class SplitPieces final : public PreTokenizer {
 public:
  SplitPieces(std::unique_ptr<Pattern> pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void split(TextPiece piece, const Use& use) const override {
    if (behavior_ == Behavior::kIsolated) {
      for_each_part(piece.text, *pattern_,
                    [&](Part part) { use(part_of(piece, part.begin, part.end)); });
      return;
    }
    std::optional<Part> held;  // what the next part may be joined to
    for_each_part(piece.text, *pattern_, [&](Part part) {
      part.is_match = part.is_match != invert_;
      if (behavior_ == Behavior::kRemoved && part.is_match) return;
      if (held && joins(*held, part)) {
        held = Part{held->begin, part.end, part.is_match};
        return;
      }
      if (held) use(part_of(piece, held->begin, held->end));
      held = part;
    });
    if (held) use(part_of(piece, held->begin, held->end));
  }

 private:
  bool joins(const Part& before, const Part& part) const {
    switch (behavior_) {
      case Behavior::kMergedWithPrevious:
        return part.is_match && !before.is_match;
      case Behavior::kMergedWithNext:
        return before.is_match && !part.is_match;
      case Behavior::kContiguous:
        return before.is_match == part.is_match;
      default:
        return false;
    }
  }

  std::unique_ptr<Pattern> pattern_;
  Behavior behavior_;
  bool invert_;
};

class ByteLevelPieces final : public PreTokenizer {
 public:
  ByteLevelPieces(bool add_prefix_space, std::unique_ptr<Pattern> pattern)
      : add_prefix_space_(add_prefix_space), pattern_(std::move(pattern)) {}

  void split(TextPiece piece, const Use& use) const override {
    std::string with_space;
    if (add_prefix_space_ && !piece.text.starts_with(' ')) {
      with_space.append(" ").append(piece.text);
      piece.text = with_space;
    }
    if (!pattern_) return use(piece);
    for_each_part(piece.text, *pattern_,
                  [&](Part part) { use(part_of(piece, part.begin, part.end)); });
  }

  bool is_byte_level() const override { return true; }

 private:
  bool add_prefix_space_;
  std::unique_ptr<Pattern> pattern_;  // may be null
};

class MetaspacePieces final : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kFirst, kNever };

  MetaspacePieces(const std::string& replacement, Prepend prepend, bool split)
      : replacement_(replacement),
        prepend_(prepend),
        blank_(literal_pattern(" ")),
        words_(literal_pattern(replacement), Behavior::kMergedWithNext, false),
        split_(split) {}

  void split(TextPiece piece, const Use& use) const override {
    std::string text = replace_all(piece.text, *blank_, replacement_);
    const bool prepends =
        prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && piece.begins_text);
    if (prepends && !text.starts_with(replacement_)) text.insert(0, replacement_);
    const TextPiece changed = {text, piece.begins_text};
    if (!split_) return use(changed);
    words_.split(changed, use);
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  std::unique_ptr<Pattern> blank_;
  SplitPieces words_;
  bool split_;
};

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(const nlohmann::json& list) {
    for (const auto& json : list) {
      if (is_byte_level()) {
        throw DataError("the pre_tokenizer \"ByteLevel\" must be the last of a \"Sequence\"");
      }
      parts_.push_back(pre_tokenizer_of(json));
    }
  }

  void split(TextPiece piece, const Use& use) const override { split_from(0, piece, use); }
  bool is_byte_level() const override { return !parts_.empty() && parts_.back()->is_byte_level(); }

 private:
  void split_from(std::size_t i, TextPiece piece, const Use& use) const {
    if (i == parts_.size()) return use(piece);
    if (i + 1 == parts_.size()) return parts_[i]->split(piece, use);
    parts_[i]->split(piece, [&, i](TextPiece part) { split_from(i + 1, part, use); });
  }

  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

std::unique_ptr<PreTokenizer> metaspace_pieces(const nlohmann::json& json) {
  using Prepend = MetaspacePieces::Prepend;
  // Files of before 2024 have add_prefix_space instead of prepend_scheme.
  Prepend prepend = json.value("add_prefix_space", true) ? Prepend::kAlways : Prepend::kNever;
  if (json.contains("prepend_scheme")) {
    const std::string scheme = json["prepend_scheme"];
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      throw unknown_component("prepend_scheme of Metaspace", scheme, "always, first and never");
    }
    prepend = scheme == "always"  ? Prepend::kAlways
              : scheme == "first" ? Prepend::kFirst
                                  : Prepend::kNever;
  }
  return std::make_unique<MetaspacePieces>(json.at("replacement"), prepend,
                                           json.value("split", true));
}

}  // namespace

std::unique_ptr<PreTokenizer> pre_tokenizer_of(const nlohmann::json& json) {
  if (json.is_null()) return nullptr;
  const std::string type = type_of(json, "pre_tokenizer");
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevelPieces>(
        json.value("add_prefix_space", true),
        json.value("use_regex", true) ? compile_pattern(kGpt2Expression) : nullptr);
  }
  if (type == "Split") {
    return std::make_unique<SplitPieces>(pattern_of(json.at("pattern")),
                                         behavior_of(json.at("behavior")),
                                         json.value("invert", false));
  }
  if (type == "Metaspace") return metaspace_pieces(json);
  if (type == "Sequence") return std::make_unique<PreTokenizerSequence>(json.at("pretokenizers"));
  throw unknown_component("pre_tokenizer", type, "ByteLevel, Metaspace, Split and Sequence");
}

std::unique_ptr<PreTokenizer> byte_pieces(const std::string& expression) {
  return std::make_unique<ByteLevelPieces>(false, compile_pattern(expression));
}

}  // namespace trireme
