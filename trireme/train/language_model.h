#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "trireme/formats/tokenizer/tokenizer.h"
#include "trireme/model/gpt/generate.h"
#include "trireme/model/model.h"

namespace trireme {

/// A trained model of tokens with its tokenizer.
///
///     LanguageModel model("run");
///     std::cout << model.generate("In the beginning", {.tokens = 200, .temperature = 0.8}).text;
///
/// One thread at a time.
class LanguageModel {
 public:
  /// Opens what `trireme train` has left in a run directory: config.toml, tokenizer.json and
  /// model.safetensors, or `weights` in its place. Throws UsageError if the run was no training of
  /// a model of tokens, DataError if a file is missing, damaged or of another model.
  explicit LanguageModel(const std::filesystem::path& run,
                         const std::filesystem::path& weights = {});

  struct Text {
    std::string text;
    std::vector<std::int64_t> tokens;
  };

  /// Continues `prompt`; without one, a text is begun. Ends before the end of the text. `on_text`
  /// is given the text piece by piece, whole characters at a time. Throws DataError if the prompt
  /// has what the tokenizer does not know, UsageError for impossible options.
  Text generate(const std::string& prompt, const GenerateOptions& options,
                const std::function<void(const std::string&)>& on_text = {});

  /// Returns the one token that `text` is. Throws UsageError if it is several.
  std::int64_t token_of(const std::string& text) const;

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Model> model_;
  std::int64_t context_ = 0;
};

}  // namespace trireme
