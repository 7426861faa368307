#include "trireme/cost/memory.h"

namespace trireme::cost {

int state_arrays(std::string_view optimizer, bool momentum, bool centered) {
  if (optimizer == "sgd") return momentum ? 1 : 0;
  if (optimizer == "adam" || optimizer == "adamw" || optimizer == "lamb") return 2;
  if (optimizer == "ftrl") return 2;
  if (optimizer == "rmsprop") return 1 + (momentum ? 1 : 0) + (centered ? 1 : 0);
  if (optimizer == "adagrad" || optimizer == "muon") return 1;
  return 0;
}

ModelStates replicated_states(std::int64_t parameters, std::int64_t state, int rows) {
  return {.parameters = parameters, .gradients = rows * parameters, .optimizer_state = state};
}

ModelStates host_shared_states(std::int64_t parameters, std::int64_t state, int rows, int ranks) {
  const auto part = [&](std::int64_t all) { return (all + ranks - 1) / ranks; };
  return {.parameters = part(parameters),
          .gradients = rows * parameters,
          .optimizer_state = part(state)};
}

ModelStates sharded_states(std::int64_t parameters, std::int64_t state, int rows, int ranks,
                           int stage) {
  const auto part = [&](std::int64_t all) { return (all + ranks - 1) / ranks; };
  const std::int64_t whole_rows = stage == 1 || rows > 1 ? rows * parameters : 0;
  return {.parameters = stage == 3 ? part(parameters) : parameters,
          .gradients = whole_rows + (stage > 1 ? part(parameters) : 0),
          .optimizer_state = part(state)};
}

std::int64_t bytes_of(const LayerActivations& kept, const TransformerLayer& layer) {
  const std::int64_t tokens = layer.length * layer.samples;
  return tokens *
         (kept.per_hidden * layer.width + kept.per_kv * layer.kv_width +
          kept.per_mlp * layer.mlp_width + kept.per_probability * layer.heads * layer.length);
}

LayerActivations gpt2_activations(std::int64_t stored, std::int64_t operand) {
  return {.per_hidden = 2 * stored + 6 * operand,
          .per_mlp = stored + operand,
          .per_probability = operand};
}

LayerActivations llama_activations(std::int64_t stored, std::int64_t operand) {
  return {.per_hidden = 2 * stored + 4 * operand,
          .per_kv = 2 * operand,
          .per_mlp = 2 * stored + operand,
          .per_probability = operand};
}

LayerActivations selective(LayerActivations kept) {
  kept.per_probability = 0;
  return kept;
}

LayerActivations input_alone(std::int64_t stored) {
  return {.per_hidden = stored};
}

}  // namespace trireme::cost
