// A trainer is destroyed in the middle of a run and built again in the same process, on another
// number of ranks.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/comm/ranks.h"
#include "tests/train/runs.h"
#include "tests/train/samples.h"
#include "trireme/plan/resolve.h"
#include "trireme/train/checkpointer.h"
#include "trireme/train/evaluator.h"
#include "trireme/train/trainer.h"

namespace trireme::test {
namespace {

// What rank 0 has seen.
struct Seen {
  std::vector<double> losses;
  std::vector<at::Tensor> model;
  std::vector<EvaluationReport> evaluations;
};

class Rebuild : public testing::TestWithParam<std::string> {
 protected:
  Rebuild()
      : runs_({"data.format=idx", "data.holdout=0.1", "model.name=cnn", "model.channels=[4]",
               "model.hidden=[16, 8]", "model.dropout=0.25", "training.virtual_workers=12",
               "training.global_batch=25", "training.steps=20", "optimizer.name=adamw",
               "optimizer.lr=0.01", "lr_scheduler.name=cosine"}) {
    write_images(runs_.folder().path());
  }

  Config config(const std::string& run) const {
    return runs_.config(run,
                        strategy(GetParam()) + Words{"data.images=" + (runs_ / "images").string(),
                                                     "data.labels=" + (runs_ / "labels").string()});
  }

  // Builds a trainer on `ranks` ranks that continues the run if it has a checkpoint, trains until
  // `step` and destroys it.
  void train_until(const Config& config, int ranks, std::int64_t step, Seen& seen) {
    const RunDirectory directory{config.run.directory};
    const bool continues = std::filesystem::exists(directory.checkpoints());
    run_ranks(ranks, [&](Communicator& world) {
      Trainer trainer(config, plan::resolve(config, world.size()), world);
      Checkpointer checkpointer(trainer, directory);
      if (continues) checkpointer.restore();
      std::vector<double> losses;
      while (trainer.steps_done() < step) losses.push_back(trainer.step().loss);
      checkpointer.save();
      const EvaluationReport evaluation = evaluate(trainer).value();
      if (world.rank() > 0) return;
      seen.losses.insert(seen.losses.end(), losses.begin(), losses.end());
      seen.evaluations.push_back(evaluation);
      seen.model.clear();
      const NamedTensors tensors = trainer.model().tensors();
      for (const auto* group : {&tensors.parameters, &tensors.buffers}) {
        for (const auto& [name, tensor] : *group) seen.model.push_back(tensor.detach().clone());
      }
    });
  }

  Runs runs_;
};

TEST_P(Rebuild, OnOtherRanksHasTheBitsOfAnUndisturbedRun) {
  Seen whole, rebuilt;
  train_until(config("whole"), 3, 20, whole);
  train_until(config("rebuilt"), 3, 7, rebuilt);
  train_until(config("rebuilt"), 2, 15, rebuilt);
  train_until(config("rebuilt"), 4, 20, rebuilt);
  EXPECT_EQ(rebuilt.losses, whole.losses);
  EXPECT_EQ(rebuilt.evaluations.back().loss, whole.evaluations.back().loss);
  ASSERT_EQ(rebuilt.model.size(), whole.model.size());
  for (std::size_t i = 0; i < whole.model.size(); ++i) {
    EXPECT_TRUE(rebuilt.model[i].equal(whole.model[i])) << i;
  }
}

TEST_P(Rebuild, OfATrainerThatSavedNothingBeginsAgain) {
  const Config config = this->config("run");
  std::vector<double> first, second;
  for (auto* losses : {&first, &second}) {
    run_ranks(3, [&](Communicator& world) {
      Trainer trainer(config, plan::resolve(config, world.size()), world);
      for (int step = 0; step < 3; ++step) {
        const double loss = trainer.step().loss;
        if (world.rank() == 0) losses->push_back(loss);
      }
    });
  }
  EXPECT_EQ(first, second);
  EXPECT_FALSE(std::filesystem::exists(config.run.directory)) << "a trainer writes no file";
}

INSTANTIATE_TEST_SUITE_P(Strategies, Rebuild,
                         testing::Values(kReplicated, kHostShared, kParameterServer),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace trireme::test
