// A small ResNet-18 on images with a border.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/runs.h"
#include "tests/train/samples.h"

namespace trireme::test {
namespace {

class ResnetRuns : public testing::Test {
 protected:
  ResnetRuns() { write_images(runs_.folder().path()); }

  double loss_of_epoch(const Outcome& outcome, std::size_t epoch) const {
    constexpr std::size_t kSteps = 12;
    double sum = 0;
    for (std::size_t step = 0; step < kSteps; ++step) {
      sum += outcome.ranks[0].steps.at(epoch * kSteps + step).loss;
    }
    return sum / kSteps;
  }

  Runs runs_;
  Words words_ = {"data.format=idx",
                  "data.images=" + (runs_ / "images").string(),
                  "data.labels=" + (runs_ / "labels").string(),
                  "data.pad_to=12",
                  "model.name=resnet18",
                  "model.stem_channels=4",
                  "training.virtual_workers=4",
                  "training.global_batch=16",
                  "training.steps=24"};
};

TEST_F(ResnetRuns, LearnWithTheSameBitsOnAnyNumberOfRanksAndWithRecomputation) {
  const Outcome one = runs_.train("one", 1, words_);
  EXPECT_LT(loss_of_epoch(one, 1), 0.7 * loss_of_epoch(one, 0));
  for (const int ranks : {2, 3}) {
    runs_.train("more", ranks, words_);
    EXPECT_EQ(runs_.model("more"), runs_.model("one")) << ranks << " ranks";
  }
  runs_.train("recomputed", 2, words_ + Words{"parallelism.recompute=full"});
  EXPECT_EQ(runs_.model("recomputed"), runs_.model("one"));
}

TEST_F(ResnetRuns, GoOnFromTheirOwnFile) {
  const Words brief = words_ + Words{"training.steps=5"};
  runs_.train("first", 2, brief);
  const std::string weights = "model.weights=" + (runs_ / "first/model.safetensors").string();
  runs_.train("second", 1, brief + Words{weights, "optimizer.lr=1e-30"});
  const auto before = runs_.tensors("first"), after = runs_.tensors("second");
  EXPECT_TRUE(after.at("layer4.1.conv2.weight").equal(before.at("layer4.1.conv2.weight")));
  EXPECT_EQ(after.at("layer4.1.bn2.num_batches_tracked").item<std::int64_t>(),
            2 * before.at("layer4.1.bn2.num_batches_tracked").item<std::int64_t>());
}

}  // namespace
}  // namespace trireme::test
