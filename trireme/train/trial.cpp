#include "trireme/train/trial.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/train/evaluation_mode.h"

namespace trireme {

namespace {

/// Makes one pass of each size, and says which of a run's passes has this size if it fails.
class Trial {
 public:
  Trial(Model& model, const Loss& loss, const Dataset& dataset)
      : model_(model), mode_(model), loss_(loss), dataset_(dataset) {}

  void add(std::span<const std::int64_t> indices, const std::string& when) {
    if (indices.empty() || !known_.insert(indices.size()).second) return;
    passes_.push_back({{indices.begin(), indices.end()}, when});
  }

  void run(Communicator* together) {
    auto most = std::ssize(passes_);
    if (together != nullptr) {
      together->all_reduce(buffer_of(std::span(&most, 1)), ReduceOp::kMax).wait();
    }
    for (const Pass& pass : passes_) make(pass);
    for (auto made = std::ssize(passes_); made < most; ++made) model_.skip_forward();
    mode_.restore_buffers();
  }

 private:
  struct Pass {
    std::vector<std::int64_t> indices;
    std::string when;
  };

  void make(const Pass& pass) {
    const auto in_context = [&](std::string_view message) {
      return fmt::format("{} (a pass of {}, as {} has it)", message,
                         counted(std::ssize(pass.indices), "sample"), pass.when);
    };
    try {
      const Batch batch = dataset_.batch(pass.indices);
      model_.evaluate(batch, loss_);
    } catch (const UsageError& error) {
      throw UsageError(in_context(error.what()));
    } catch (const DataError& error) {
      throw DataError(in_context(error.what()));
    } catch (const c10::Error& error) {
      throw UsageError(in_context(error.what_without_backtrace()));
    }
  }

  const at::NoGradGuard no_grad_;
  Model& model_;
  EvaluationMode mode_;
  const Loss& loss_;
  const Dataset& dataset_;
  std::set<std::size_t> known_;
  std::vector<Pass> passes_;
};

// The steps in which a virtual worker has all numbers of samples that it ever has: the last one of
// an epoch may be smaller, and those of the block sampler differ by one.
std::vector<std::int64_t> steps_to_try(const Sampler& sampler) {
  constexpr std::int64_t kFirst = 16;
  std::vector<std::int64_t> steps(
      static_cast<std::size_t>(std::min(kFirst, sampler.steps_per_epoch())));
  std::iota(steps.begin(), steps.end(), 0);
  steps.push_back(sampler.steps_per_epoch() - 1);
  return steps;
}

}  // namespace

void try_training(Model& model, const Loss& loss, const Dataset& train, const Sampler& sampler,
                  Range workers, Communicator* together) {
  Trial trial(model, loss, train);
  std::vector<std::int64_t> indices;
  for (const std::int64_t step : steps_to_try(sampler)) {
    for (std::int64_t worker = workers.begin; worker < workers.end; ++worker) {
      sampler.indices(step, static_cast<int>(worker), indices);
      trial.add(indices, fmt::format("step {} of an epoch", step + 1));
    }
  }
  trial.run(together);
}

void try_evaluation(Model& model, const Loss& loss, const Dataset& dataset,
                    const ReductionTree& tree, int rank, std::int64_t batch,
                    Communicator* together) {
  Trial trial(model, loss, dataset);
  const Range workers = tree.virtual_workers_of(rank);
  for (std::int64_t worker = workers.begin; worker < workers.end; ++worker) {
    const Range samples = partition(dataset.size(), tree.virtual_workers(), worker);
    for (const std::int64_t size : {std::min(batch, samples.size()), samples.size() % batch}) {
      std::vector<std::int64_t> indices(static_cast<std::size_t>(size));
      std::iota(indices.begin(), indices.end(), samples.begin);
      trial.add(indices, "the evaluation");
    }
  }
  trial.run(together);
}

}  // namespace trireme
