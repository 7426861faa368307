#include "trireme/train/components.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/error.h"
#include "trireme/base/processor.h"
#include "trireme/checkpoint/model_file.h"
#include "trireme/model/make_model.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/tensor/prepare_groups.h"

namespace trireme {

namespace {

constexpr int kPrefetchSteps = 64;

void load_weights(const Config::Model& config, Model& model) {
  LoadModelOptions options;
  if (config.name == "gpt2") {
    // Files of GPT2LMHeadModel; and the masks of attention that old ones hold.
    options.prefixes = {"transformer."};
    options.ignored = {"*.attn.bias", "*.attn.masked_bias"};
  } else if (config.name == "llama") {
    options.ignored = {"*.rotary_emb.inv_freq"};
  }
  try {
    const auto reader =
        std::make_shared<ModelReader>(config.weights, model.tensors_under_all_names(), options);
    const NamedTensors tensors = model.tensors();
    for (const auto* group : {&tensors.parameters, &tensors.buffers}) {
      for (const NamedTensor& tensor : *group) {
        if (!model.deferred_weights().contain(tensor.second)) reader->read(tensor);
      }
    }
    if (model.deferred_weights().is_empty()) return;
    model.defer_weights([reader](const NamedTensor& weight) { reader->read(weight); });
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("model.weights: {}", error.what()));
  }
}

}  // namespace

Mesh mesh_of(const plan::MeshShape& shape, Communicator& world) {
  return Mesh(world, {{"data", shape.data},
                      {"pipeline", shape.pipeline},
                      {"context", shape.context},
                      {"tensor", shape.tensor}});
}

int prefetch_steps_of(const Config& config, int ranks) {
  if (config.data.prefetch_steps >= 0) return static_cast<int>(config.data.prefetch_steps);
  const auto busy =
      static_cast<unsigned>(ranks * std::max<std::int64_t>(1, config.training.threads));
  return std::thread::hardware_concurrency() > busy ? kPrefetchSteps : 0;
}

plan::RunPlan on_processors_of(Communicator& world, plan::RunPlan plan) {
  if (plan.precision.compute != DType::kBF16) return plan;
  std::int64_t without = multiplies_bf16() ? 0 : 1;
  world.all_reduce(buffer_of(std::span(&without, 1))).wait();
  plan.precision.has_bf16_products = without == 0;
  return plan;
}

bool classifies(const Config& config) {
  if (config.data.task != "auto") return config.data.task == "classification";
  return config.model.name == "logistic" || config.training.loss == "cross_entropy" ||
         config.training.loss == "bce_with_logits";
}

namespace {

ComputeType compute_of(const plan::Precision& precision) {
  if (precision.compute == precision.storage) return {};
  return {.operands = precision.compute,
          .native = precision.compute == DType::kBF16 && precision.has_bf16_products};
}

ModelOptions model_options(const Config& config, std::string_view dtype) {
  const Config::Model& model = config.model;
  ModelOptions options{.name = model.name,
                       .loss = config.training.loss,
                       .dtype = std::string(dtype),
                       .init = model.init,
                       .seed = static_cast<std::uint64_t>(config.training.seed),
                       .activation = model.activation,
                       .dropout = model.dropout,
                       .channels = model.channels,
                       .kernel = model.kernel,
                       .batch_norm = model.batch_norm,
                       .stem = model.stem,
                       .stem_channels = model.stem_channels,
                       .gpt = {.vocabulary = model.vocabulary,
                               .layers = model.layers,
                               .width = model.width,
                               .heads = model.heads,
                               .kv_heads = model.kv_heads,
                               .mlp_width = model.mlp_width,
                               .norm_eps = model.norm_eps,
                               .rope_theta = model.rope_theta,
                               .tied = model.tie_embeddings},
                       .path = model.path};
  if (!model.hidden.empty()) options.hidden = model.hidden;
  return options;
}

std::unique_ptr<Model> model_for(const Config& config, const plan::RunPlan& plan,
                                 std::span<const std::int64_t> input_shape, const Target& target,
                                 const Mesh& mesh, bool defers_weights) {
  ModelOptions options = model_options(config, name_of(plan.precision.storage));
  options.defers_weights = defers_weights;
  auto made = make_model(options, input_shape, target, mesh);
  if (!config.model.weights.empty()) load_weights(config.model, *made);
  prepare_groups(made->tensors(), plan.optimizer.groups);
  made->set_recompute(plan.recompute);
  made->set_compute(compute_of(plan.precision));
  return made;
}

}  // namespace

std::unique_ptr<Model> model_of(const Config& config, const plan::RunPlan& plan,
                                const Dataset& train, const Mesh& mesh, bool defers_weights) {
  return model_for(config, plan, train.input_shape(), train.target(), mesh, defers_weights);
}

std::unique_ptr<Model> model_of(const Config& config, const plan::RunPlan& plan,
                                const Target& tokens, const Mesh& mesh) {
  const std::vector<std::int64_t> shape{tokens.length};
  return model_for(config, plan, shape, tokens, mesh, false);
}

GptShape gpt_shape_of(const Config& config, const Dataset& train) {
  return gpt_shape(model_options(config, "f32"), train.input_shape(), train.target());
}

Loss loss_of(const Config& config, const Dataset& train) {
  return make_loss(
      train.target(), config.training.loss,
      {.label_smoothing = config.training.label_smoothing, .z_loss = config.training.z_loss});
}

std::unique_ptr<Optimizer> optimizer_of(const plan::RunPlan& plan, std::span<Shard> shards) {
  auto result = make_optimizer(plan.optimizer, shards);
  result->set_gradient_clip_value(plan.clip_value);
  return result;
}

std::unique_ptr<Schedule> schedule_of(const plan::RunPlan& plan, std::int64_t total_steps) {
  ScheduleOptions options = plan.schedule;
  options.total_steps = total_steps;
  return make_schedule(options);
}

}  // namespace trireme
