#include "trireme/train/memory_formulas.h"

#include <fmt/format.h>

#include <numeric>
#include <variant>

#include "trireme/cost/memory.h"
#include "trireme/model/gpt/gpt.h"
#include "trireme/optim/parameter_groups.h"
#include "trireme/parallel/sharded/units.h"
#include "trireme/train/components.h"

namespace trireme {

namespace {

constexpr const char* kZero = "ZeRO's table (Rajbhandari et al. 2020)";
constexpr const char* kKorthikanti =
    "as Korthikanti et al. 2022 (arXiv:2205.05198), whose s b h (34 + 5 a s / h) has 16 bits and "
    "masks of dropout";

std::int64_t element_bytes(const plan::RunPlan& plan) {
  return static_cast<std::int64_t>(size_of(plan.precision.storage));
}

/// Elements of a model's parameters.
struct ParameterCounts {
  std::int64_t all = 0;
  std::int64_t trained = 0;
  std::int64_t matrices = 0;  ///< that muon updates as such
};

ParameterCounts counts_of(const NamedTensors& model) {
  ParameterCounts counts;
  for (const auto& [name, tensor] : model.parameters) {
    counts.all += tensor.numel();
    if (!tensor.requires_grad()) continue;
    counts.trained += tensor.numel();
    if (kind_of({name, tensor.sizes().vec()}) == "hidden") counts.matrices += tensor.numel();
  }
  return counts;
}

void add_states(MemoryFormulas& formulas, const plan::RunPlan& plan, const MemoryFacts& facts) {
  const bool is_shared = std::holds_alternative<plan::HostShared>(plan.data_parallel);
  const auto* const sharded = std::get_if<plan::Sharded>(&plan.data_parallel);
  if (!is_shared && sharded == nullptr &&
      !std::holds_alternative<plan::Replicated>(plan.data_parallel)) {
    return;
  }
  const OptimizerOptions& optimizer = plan.optimizer;
  const ParameterCounts counts = counts_of(facts.model.tensors());
  const int arrays = cost::state_arrays(optimizer.name, optimizer.momentum.value_or(0) > 0,
                                        optimizer.centered.value_or(false));
  const bool is_muon = optimizer.name == "muon";
  std::int64_t state = arrays * counts.trained;
  if (is_muon) {
    state +=
        (cost::state_arrays("adamw", false, false) - arrays) * (counts.trained - counts.matrices);
  }
  const int ranks = plan.mesh.data;
  const std::int64_t e = element_bytes(plan);
  const std::string trained = counts.trained < counts.all ? ", P the trained ones" : "";
  const auto rows = fmt::format(", {} rows to sum {} virtual workers in tree order", facts.rows,
                                facts.virtual_workers);
  const char* const divided = ranks > 1 ? " / ranks" : "";
  const std::string state_text =
      is_muon ? fmt::format("{} P of hidden matrices, {} P of others{}; one array and two", e,
                            2 * e, sharded != nullptr ? divided : "")
              : fmt::format("{} P{}{}, {} arrays; {}", e * arrays,
                            is_shared || sharded != nullptr ? divided : "", trained, arrays, kZero);
  if (sharded != nullptr) {
    const cost::ModelStates of_trained =
        cost::sharded_states(counts.trained, state, facts.rows, ranks, sharded->stage);
    const std::int64_t frozen = counts.all - counts.trained;
    formulas.parameters = {e * (of_trained.parameters + frozen),
                           fmt::format("{} P{}{}; {}", e, sharded->stage == 3 ? divided : "",
                                       frozen > 0 ? ", and all frozen ones" : "", kZero)};
    const bool has_rows = sharded->stage == 1 || facts.rows > 1;
    formulas.gradients = {
        e * of_trained.gradients,
        fmt::format("{}{}{}{}; {}", has_rows ? fmt::format("{} P", e * facts.rows) : "",
                    has_rows && sharded->stage > 1 ? " + " : "",
                    sharded->stage > 1 ? fmt::format("{} P{}", e, divided) : "",
                    facts.rows > 1 ? trained + rows : trained, kZero)};
    formulas.optimizer_state = {e * of_trained.optimizer_state, state_text};
    const ShardedTemporaries temporaries = sharded_temporaries(
        facts.model, {.stage = sharded->stage, .whole_parameters = sharded->whole_parameters},
        facts.tree, plan.bucket_bytes, facts.rank, !facts.holds_parameters);
    if (temporaries.buckets > 0) {
      formulas.buckets = {temporaries.buckets, "gradients on their way: three buckets in a row"};
    }
    if (!facts.holds_parameters) {
      formulas.gathered = {temporaries.gathered, "parameters of a block and of the next one"};
    }
    return;
  }
  const cost::ModelStates of_trained =
      is_shared ? cost::host_shared_states(counts.trained, state, facts.rows, ranks)
                : cost::replicated_states(counts.trained, state, facts.rows);
  formulas.parameters = {
      e * (is_shared ? cost::host_shared_states(counts.all, 0, 1, ranks).parameters : counts.all),
      fmt::format("{} P{}; {}", e, is_shared && ranks > 1 ? " / ranks, one copy a host" : "",
                  kZero)};
  formulas.gradients = {
      e * of_trained.gradients,
      fmt::format("{} P{}{}; {}", e * facts.rows, trained, facts.rows > 1 ? rows : "", kZero)};
  formulas.optimizer_state = {e * of_trained.optimizer_state, state_text};
}

cost::LayerActivations kept_by_layer(bool is_llama, const plan::RunPlan& plan) {
  const std::int64_t stored = element_bytes(plan);
  const auto operand = static_cast<std::int64_t>(size_of(plan.precision.compute));
  if (plan.recompute == Recompute::kFull) return cost::input_alone(stored);
  const cost::LayerActivations kept =
      is_llama ? cost::llama_activations(stored, operand) : cost::gpt2_activations(stored, operand);
  return plan.recompute == Recompute::kSelective ? cost::selective(kept) : kept;
}

// "s b h (64 + 4 a s / h)", or "24 s b h + 12 s b m + 4 a s^2 b".
std::string text_of(const cost::LayerActivations& kept, const cost::TransformerLayer& layer) {
  if (kept.per_kv == 0 && (kept.per_mlp == 0 || layer.mlp_width == 4 * layer.width)) {
    const std::int64_t all = kept.per_hidden + 4 * kept.per_mlp;
    return kept.per_probability > 0
               ? fmt::format("s b h ({} + {} a s / h)", all, kept.per_probability)
               : fmt::format("{} s b h", all);
  }
  std::string text = fmt::format("{} s b h", kept.per_hidden);
  if (kept.per_kv > 0) text += fmt::format(" + {} s b k", kept.per_kv);
  text += fmt::format(" + {} s b m", kept.per_mlp);
  if (kept.per_probability > 0) text += fmt::format(" + {} a s^2 b", kept.per_probability);
  return text;
}

void add_transformer(MemoryFormulas& formulas, const Config& config, const plan::RunPlan& plan,
                     const MemoryFacts& facts) {
  const GptShape shape = gpt_shape_of(config, facts.train);
  const bool is_llama = config.model.name == "llama";
  const cost::TransformerLayer layer{.samples = facts.micro_batch.input.size(0),
                                     .length = shape.context,
                                     .width = shape.width,
                                     .heads = shape.heads,
                                     .kv_width = shape.kv_heads * shape.head_width(),
                                     .mlp_width = shape.mlp_width};
  const std::int64_t e = element_bytes(plan);
  const std::int64_t hidden = layer.length * layer.samples * layer.width;
  formulas.letters = fmt::format(
      "s {} tokens, b {} samples, h {} width, a {} heads{}, m {} MLP width, L {} "
      "layers, V {} vocabulary",
      layer.length, layer.samples, layer.width, layer.heads,
      is_llama ? fmt::format(", k {} width of keys", layer.kv_width) : "", layer.mlp_width,
      shape.layers, shape.vocabulary);
  const cost::LayerActivations kept = kept_by_layer(is_llama, plan);
  formulas.layer_activations = {cost::bytes_of(kept, layer),
                                fmt::format("{}; {}", text_of(kept, layer), kKorthikanti)};
  formulas.activations = {
      shape.layers * formulas.layer_activations->bytes + e * hidden,
      fmt::format("L times that of a layer, and {} s b h, the input of the last norm", e)};
  formulas.kept_for_loss = {
      e * (hidden + shape.vocabulary * shape.width),
      fmt::format("{0} s b h + {0} V h: the gradients of its input and of the output layer", e)};
  formulas.full_logits = {
      e * layer.samples * layer.length * shape.vocabulary,
      fmt::format("{} s b V, the full logits, which are never held at once", e)};
}

// What a hidden layer of an MLP keeps is the next one's input.
void add_mlp(MemoryFormulas& formulas, const Config& config, const plan::RunPlan& plan,
             const MemoryFacts& facts) {
  const bool recomputes = plan.recompute == Recompute::kFull;
  if (config.model.dropout > 0 && !recomputes) return;
  if (plan.precision.compute != plan.precision.storage && !recomputes) return;
  const at::Tensor& input = facts.micro_batch.input;
  const std::int64_t samples = input.size(0);
  const std::int64_t e = element_bytes(plan);
  std::int64_t outputs = 0;
  std::int64_t widths = 0;
  for (const auto& [name, tensor] : facts.model.tensors().parameters) {
    if (!name.ends_with("bias")) continue;
    outputs = tensor.numel();
    widths += outputs;
  }
  // Of the other activations the result is what their gradients need.
  const bool keeps_both = config.model.activation == "gelu" && !recomputes && widths > outputs;
  std::int64_t elements = samples * (widths + (keeps_both ? widths - outputs : 0));
  std::string text =
      fmt::format("{} b (the widths of the layers{}), each the next one's input; b {} samples", e,
                  keeps_both ? ", hidden ones twice" : "", samples);
  const bool is_converted =
      input.scalar_type() != facts.model.tensors().parameters.front().second.scalar_type();
  if (is_converted && !recomputes) {
    elements += input.numel();
    text += ", and the input in another type";
  }
  formulas.activations = {e * elements, std::move(text)};
}

}  // namespace

MemoryFormulas memory_formulas(const Config& config, const plan::RunPlan& plan,
                               const MemoryFacts& facts) {
  MemoryFormulas formulas;
  add_states(formulas, plan, facts);
  const std::string& name = config.model.name;
  if (name == "gpt2" || name == "llama") {
    add_transformer(formulas, config, plan, facts);
  } else if (name == "linear" || name == "logistic" || name == "mlp") {
    add_mlp(formulas, config, plan, facts);
  }
  return formulas;
}

}  // namespace trireme
