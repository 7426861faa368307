#include "trireme/train/sample_text.h"

#include <cstdint>
#include <vector>

#include "trireme/formats/tokenizer/tokenizer.h"
#include "trireme/model/gpt/generate.h"

namespace trireme {

std::string sample_text(Trainer& trainer) {
  constexpr std::int64_t kTokens = 200;
  constexpr std::int64_t kGatheredTokens = 32;  // each one gathers all parameters
  constexpr double kTemperature = 0.8;
  const DataSets& data = trainer.data();
  if (data.tokenizer.empty() || trainer.config().model.name == "torchscript") return "";
  const auto tokenizer = tokenizer_from_json(data.tokenizer);
  // As the first sample begins: its first token alone.
  const std::vector<std::int64_t> first{data.train->local_range().begin};
  const std::vector<std::int64_t> prompt{
      data.train->batch(first).input.flatten()[0].item<std::int64_t>()};
  GenerateOptions options{
      .tokens = trainer.strategy().holds_parameters() ? kTokens : kGatheredTokens,
      .temperature = kTemperature,
      .seed = static_cast<std::uint64_t>(trainer.config().training.seed)};
  if (const auto end = tokenizer->end_of_text()) options.stop = {*end};
  const std::vector<std::int64_t> ids =
      generate(trainer.model(), prompt, data.train->target().length, options);
  // A model may know more tokens than its tokenizer.
  std::vector<std::int32_t> known;
  for (const std::int64_t id : ids) {
    if (id < tokenizer->vocabulary()) known.push_back(static_cast<std::int32_t>(id));
  }
  return tokenizer->decode(known);
}

}  // namespace trireme
