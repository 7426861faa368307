// Classification: the accuracy on test data is about that of the comments in the examples.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/examples/example_folder.h"
#include "trireme/formats/safetensors.h"

namespace trireme::test {
namespace {

using testing::Ge;
using testing::UnorderedElementsAre;

class NetworkExamples : public testing::Test {
 protected:
  double accuracy(const std::string& run) const {
    return metric(folder_ / run, "/evaluation/accuracy").back();
  }

  ExampleFolder folder_;
};

TEST_F(NetworkExamples, DigitsAreReadByTheMlp) {
  folder_.train("digits", 2);
  EXPECT_THAT(accuracy("runs/digits"), Ge(0.95));
}

// tests/examples/modes_test.cpp has smaller networks on the same images.
TEST_F(NetworkExamples, ClothesAreSeenByTheCnn) {
  folder_.train("fashion-mnist", 2, {"training.steps=10", "checkpoint.keep=1"});
  const std::vector<double> losses = metric(folder_ / "runs/fashion-mnist", "/loss");
  EXPECT_LT(losses.back(), 2.3) << "the loss of a guess";
}

// With fewer channels, and without evaluation, which takes longer than these steps.
TEST_F(NetworkExamples, ClothesAreSeenByTheResnet) {
  folder_.train("resnet", 2,
                {"training.steps=10", "checkpoint.keep=1", "model.stem_channels=4",
                 "data.test_images=", "data.test_labels="});
  const std::vector<double> losses = metric(folder_ / "runs/resnet", "/loss");
  EXPECT_LT(losses.back(), 2.3) << "the loss of a guess";
}

TEST_F(NetworkExamples, ClothesAreSeenByRanksThatTakeLocalSteps) {
  folder_.train("fashion-mnist-diloco", 3, {"training.steps=10", "checkpoint.keep=1"});
  const std::vector<double> losses = metric(folder_ / "runs/fashion-mnist-diloco", "/loss");
  EXPECT_LT(losses.back(), 2.3) << "the loss of a guess";
}

// Fewer steps of a smaller model than the example's.
TEST_F(NetworkExamples, AGptReadsTheBibleAndThenMobyDick) {
  const std::vector<std::string> small = {"training.steps=60", "model.width=32",
                                          "lr_scheduler.warmup_steps=5", "optimizer.lr=0.01"};
  auto first = small;
  first.insert(first.end(), {"data.tokenizer=bytes", "run.directory=runs/gpt-bytes",
                             "evaluation.every_steps=60"});
  folder_.train("gpt", 2, first);
  const double bits = metric(folder_ / "runs/gpt-bytes", "/evaluation/bits_per_byte").back();
  EXPECT_LT(bits, 5.2);
  auto second = small;
  second.push_back("evaluation.every_steps=60");
  folder_.train("gpt-fine-tuning", 2, second);
  const auto after = metric(folder_ / "runs/gpt-fine-tuning", "/evaluation/bits_per_byte");
  EXPECT_LT(after.back(), 5.2);
}

TEST_F(NetworkExamples, TumoursAreToldApartByLogisticRegression) {
  folder_.train("breast-cancer", 2);
  EXPECT_THAT(accuracy("runs/breast-cancer"), Ge(0.94));
}

using SoakNetworkExamples = NetworkExamples;

// A seventh of the whole run.
TEST_F(SoakNetworkExamples, ClothesAreToldApartByTheCnn) {
  folder_.train("fashion-mnist", 2, {"training.steps=200", "checkpoint.keep=1"});
  EXPECT_THAT(accuracy("runs/fashion-mnist"), Ge(0.8));
}

TEST_F(SoakNetworkExamples, ClothesAreToldApartByRanksThatTrainAlone) {
  folder_.train("fashion-mnist-diloco", 3, {"training.steps=200", "checkpoint.keep=1"});
  EXPECT_THAT(accuracy("runs/fashion-mnist-diloco"), Ge(0.8));
}

TEST_F(NetworkExamples, ATorchScriptFileIsTrainedUnderItsOwnNames) {
  const Ended written = folder_.trireme(
      {"run", "-n", "1", example_program("make_torchscript_model"), "runs/model.pt"});
  ASSERT_EQ(written.exit_code, 0) << written.err;
  folder_.train("torchscript", 2);
  const std::vector<double> losses = metric(folder_ / "runs/torchscript", "/loss");
  EXPECT_LT(losses.back(), losses.front() / 2);
  EXPECT_THAT(accuracy("runs/torchscript"), Ge(0.95));
  EXPECT_THAT(
      SafetensorsFile(folder_ / "runs/torchscript/model.safetensors").names(),
      UnorderedElementsAre("expand.weight", "expand.bias", "classify.weight", "classify.bias"));
}

}  // namespace
}  // namespace trireme::test
