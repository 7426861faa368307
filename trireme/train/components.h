#pragma once

#include <memory>
#include <span>

#include "trireme/comm/communicator.h"
#include "trireme/comm/mesh.h"
#include "trireme/config/config.h"
#include "trireme/data/dataset.h"
#include "trireme/model/gpt/gpt.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"
#include "trireme/optim/optimizer.h"
#include "trireme/optim/schedule.h"
#include "trireme/optim/shard.h"
#include "trireme/plan/run_plan.h"

namespace trireme {

/// The parts of a run that a configuration and its plan describe.

/// Cuts `world` into the axes of a plan: "data", "pipeline", "context" and "tensor", the last ones
/// being neighbors. Collective. `world` must outlive the mesh.
Mesh mesh_of(const plan::MeshShape& shape, Communicator& world);

/// The plan with Precision::has_bf16_products. Collective if matrices are to be rounded to bf16.
plan::RunPlan on_processors_of(Communicator& world, plan::RunPlan plan);

/// A thread that reads ahead takes its core from training where no core is free.
int prefetch_steps_of(const Config& config, int ranks);
bool classifies(const Config& config);

/// Makes the model of the ranks of `mesh`, which must outlive it, with the values of model.weights;
/// the parameter groups that are not trainable are frozen. Throws UsageError for a group that
/// matches no parameter and for weights of another model. `defers_weights`: see ModelOptions; for a
/// model that a strategy attaches.
std::unique_ptr<Model> model_of(const Config& config, const plan::RunPlan& plan,
                                const Dataset& train, const Mesh& mesh,
                                bool defers_weights = false);
/// The same for samples of tokens.
std::unique_ptr<Model> model_of(const Config& config, const plan::RunPlan& plan,
                                const Target& tokens, const Mesh& mesh);
/// The sizes of a transformer.
GptShape gpt_shape_of(const Config& config, const Dataset& train);
Loss loss_of(const Config& config, const Dataset& train);
std::unique_ptr<Optimizer> optimizer_of(const plan::RunPlan& plan, std::span<Shard> shards);
std::unique_ptr<Schedule> schedule_of(const plan::RunPlan& plan, std::int64_t total_steps);

}  // namespace trireme
