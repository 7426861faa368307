// Linear regression ends at the least-squares weights, which are computed here on their own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/examples/example_folder.h"
#include "tests/examples/least_squares.h"

namespace trireme::test {
namespace {

using testing::Le;

class LinearExamples : public testing::Test {
 protected:
  // The weights of the run for the data as the model saw it, and with its scale undone.
  void expect_least_squares(const std::string& name, const Samples& samples, bool scaled_target,
                            double tolerance) const {
    const std::filesystem::path run = folder_ / ("runs/" + name);
    const LinearModel trained = trained_model(run);
    EXPECT_THAT(distance(trained, least_squares(standardized(samples, scaled_target))),
                Le(tolerance));
    EXPECT_THAT(distance_by_parameter(in_own_units(trained, run), least_squares(samples)),
                Le(tolerance));
  }

  Samples randhie() const {
    return read_table(folder_ / ".cache/data/randhie/randhie.csv", "mdvis");
  }

  Samples diabetes() const {
    return read_table(folder_ / ".cache/data/diabetes/diabetes.csv", "target");
  }

  ExampleFolder folder_;
};

TEST_F(LinearExamples, RandhieReachesTheLeastSquaresWeights) {
  ASSERT_EQ(randhie().y.size(), 20190u);
  folder_.train("randhie", 2);
  expect_least_squares("randhie", randhie(), false, 1e-6);
}

using SoakLinearExamples = LinearExamples;

TEST_F(SoakLinearExamples, RandhieReachesThemInF32) {
  folder_.train("randhie", 2, {"training.precision=f32", "lr_scheduler.name=cosine"});
  expect_least_squares("randhie", randhie(), false, 1e-4);
}

TEST_F(SoakLinearExamples, RandhieReachesThemByMiniBatchesWithADecayingStep) {
  folder_.train("randhie", 2,
                {"training.precision=f32", "training.global_batch=5048", "training.steps=1200",
                 "optimizer.momentum=0", "lr_scheduler.name=step", "lr_scheduler.step_size=300",
                 "lr_scheduler.gamma=0.25"});
  EXPECT_THAT(distance(trained_model(folder_ / "runs/randhie"),
                       least_squares(standardized(randhie(), false))),
              Le(1e-4));
}

TEST_F(LinearExamples, DiabetesReachesTheLeastSquaresWeights) {
  ASSERT_EQ(diabetes().y.size(), 442u);
  folder_.train("diabetes", 2);
  expect_least_squares("diabetes", diabetes(), true, 1e-6);
}

TEST_F(LinearExamples, DiabetesReachesThemInF32) {
  folder_.train("diabetes", 2, {"training.precision=f32", "lr_scheduler.name=cosine"});
  expect_least_squares("diabetes", diabetes(), true, 1e-4);
}

// The order of the ranks changes the path of the parameters; the last steps are small and undo
// that.
void expect_least_squares_of_asynchronous_ranks(const ExampleFolder& folder, int ranks) {
  const LinearModel wanted = least_squares(generated_samples(4000, 20, 0.1, 1));
  folder.train("linear-regression-asynchronous", ranks, {"--overwrite"});
  EXPECT_THAT(distance(trained_model(folder / "runs/linear-regression-asynchronous"), wanted),
              Le(1e-3))
      << ranks << " ranks";
}

TEST_F(LinearExamples, AsynchronousRanksReachTheLeastSquaresWeights) {
  expect_least_squares_of_asynchronous_ranks(folder_, 3);
}

TEST_F(SoakLinearExamples, AsynchronousRanksReachTheLeastSquaresWeights) {
  for (const int ranks : {1, 2, 4}) expect_least_squares_of_asynchronous_ranks(folder_, ranks);
}

class SamplerOfFourRanks : public testing::TestWithParam<std::string> {
 protected:
  std::vector<std::string> with_sampler(std::vector<std::string> overrides) const {
    overrides.push_back("data.sampler=" + GetParam());
    return overrides;
  }

  ExampleFolder folder_;
};

using SoakSamplerOfFourRanks = SamplerOfFourRanks;

TEST_P(SoakSamplerOfFourRanks, ReachesTheLeastSquaresWeightsInF32) {
  folder_.train("linear-regression", 4, with_sampler({}));
  EXPECT_THAT(distance(trained_model(folder_ / "runs/linear-regression"),
                       least_squares(generated_samples(4000, 20, 0.1, 1))),
              Le(1e-4));
}

// 4001 samples in steps of 4001 over four ranks: one that came twice or not at all, or counted for
// more than the others, would be seen.
TEST_P(SamplerOfFourRanks, ReachesThemInF64) {
  folder_.train(
      "linear-regression", 4,
      with_sampler({"training.precision=f64", "training.global_batch=4001", "training.epochs=150",
                    "data.samples=4001", "optimizer.lr=0.4", "lr_scheduler.name=constant"}));
  EXPECT_THAT(distance(trained_model(folder_ / "runs/linear-regression"),
                       least_squares(generated_samples(4001, 20, 0.1, 1))),
              Le(1e-6));
}

INSTANTIATE_TEST_SUITE_P(Each, SamplerOfFourRanks, testing::Values("random", "block", "sequential"),
                         [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Each, SoakSamplerOfFourRanks,
                         testing::Values("random", "block", "sequential"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace trireme::test
