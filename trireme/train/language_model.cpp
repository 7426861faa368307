#include "trireme/train/language_model.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/model_file.h"
#include "trireme/comm/self/self.h"
#include "trireme/data/dataset.h"
#include "trireme/plan/resolve.h"
#include "trireme/train/components.h"
#include "trireme/train/run_directory.h"

namespace trireme {

namespace {

// Bytes of `text` that are whole characters: the last one may go on in the next token.
std::size_t whole_characters(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0 && (static_cast<unsigned char>(text[begin - 1]) & 0xC0) == 0x80) --begin;
  if (begin == 0) return text.size();
  const auto first = static_cast<unsigned char>(text[begin - 1]);
  const std::size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  return text.size() - (begin - 1) < length ? begin - 1 : text.size();
}

}  // namespace

LanguageModel::LanguageModel(const std::filesystem::path& run,
                             const std::filesystem::path& weights) {
  const RunDirectory directory{run};
  Config config = read_run_config(directory.config(), {});
  if (!std::filesystem::exists(directory.tokenizer())) {
    throw UsageError(
        fmt::format("{}: the run has no {}: it has not ended, or it did not train a model of "
                    "tokens (model.name "
                    "= \"gpt2\" or \"llama\")",
                    run.string(), directory.tokenizer().filename().string()));
  }
  tokenizer_ =
      tokenizer_from_json(read_file(directory.tokenizer()), directory.tokenizer().string());
  context_ = config.model.context;
  // What the model began with is not needed.
  config.model.weights.clear();
  config.parallelism.recompute = "none";
  const auto alone = self_communicator();
  const Mesh mesh = mesh_of({}, *alone);
  const plan::RunPlan plan = on_processors_of(*alone, plan::resolve_derived(config, 1));
  model_ = model_of(config, plan, Target::tokens(tokenizer_->vocabulary(), context_), mesh);
  load_model(weights.empty() ? directory.model() : weights, model_->tensors_under_all_names());
}

LanguageModel::Text LanguageModel::generate(
    const std::string& prompt, const GenerateOptions& options,
    const std::function<void(const std::string&)>& on_text) {
  std::vector<std::int32_t> ids = tokenizer_->frame().before;
  tokenizer_->append(prompt, SpecialTokens::kRecognized, ids);
  const auto end = tokenizer_->end_of_text();
  // A text begins where the one before it ends.
  if (ids.empty()) ids.push_back(end.value_or(0));
  GenerateOptions all = options;
  if (end) all.stop.push_back(*end);
  Text result;
  std::string unsaid;
  const std::vector<std::int64_t> first(ids.begin(), ids.end());
  result.tokens = trireme::generate(*model_, first, context_, all, [&](std::int64_t token) {
    // A model may know more tokens than its tokenizer.
    if (token >= tokenizer_->vocabulary()) return true;
    const std::vector<std::int32_t> one{static_cast<std::int32_t>(token)};
    unsaid += tokenizer_->decode(one);
    const std::size_t whole = whole_characters(unsaid);
    result.text += unsaid.substr(0, whole);
    if (on_text && whole > 0) on_text(unsaid.substr(0, whole));
    unsaid.erase(0, whole);
    return true;
  });
  result.text += unsaid;
  if (on_text && !unsaid.empty()) on_text(unsaid);
  return result;
}

std::int64_t LanguageModel::token_of(const std::string& text) const {
  std::vector<std::int32_t> ids;
  tokenizer_->append(text, SpecialTokens::kRecognized, ids);
  if (ids.size() == 1) return ids.front();
  throw UsageError(
      fmt::format("generate: \"{}\" must be one token of the model, is {}", text, ids.size()));
}

}  // namespace trireme
