#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace trireme {

/// A regular expression with Unicode classes that cuts texts into pieces. Threads may share it.
class Pattern {
 public:
  using Use = std::function<void(std::size_t begin, std::size_t end)>;

  virtual ~Pattern() = default;

  /// Calls `use` with the bytes [begin, end) of each match that is not empty, in order. Bytes of
  /// `text` that are not UTF-8 match as U+FFFD does. Throws DataError if the text is longer than
  /// 1 GiB or if matching takes too long.
  virtual void for_each_match(std::string_view text, const Use& use) const = 0;
};

/// Compiles an expression by ICU, or takes a scanner that was written for it if it is GPT-2's,
/// Llama 3's or Qwen 2's. Throws DataError if it is no expression.
std::unique_ptr<Pattern> compile_pattern(const std::string& expression);

/// A pattern that matches `literal` itself.
std::unique_ptr<Pattern> literal_pattern(const std::string& literal);

/// What compile_pattern() chooses from.
std::unique_ptr<Pattern> icu_pattern(const std::string& expression);
std::unique_ptr<Pattern> gpt2_pattern();
std::unique_ptr<Pattern> llama3_pattern(std::size_t digits);  ///< Qwen 2's with one digit

/// The pattern of GPT-2 (Radford et al. 2019).
constexpr const char* kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3Expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace trireme
