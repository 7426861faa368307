// What an evaluation or a later step of an epoch needs is tried before the first step, by a dry run
// as well.

#include "trireme/train/trial.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "tests/formats/error_of.h"
#include "tests/train/runs.h"
#include "tests/train/samples.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

class Trial : public testing::Test {
 protected:
  Trial() {
    write_images(runs_.folder().path());
    write_table(runs_ / "table.csv", 60);
  }

  std::string file(const std::string& name) const { return (runs_ / name).string(); }

  Words images(const Words& more = {}) const {
    return Words{"data.format=idx",
                 "data.images=" + file("images"),
                 "data.labels=" + file("labels"),
                 "data.test_images=" + file("test_images"),
                 "data.test_labels=" + file("test_labels"),
                 "model.name=mlp",
                 "model.hidden=[4]",
                 "training.global_batch=24",
                 "training.epochs=2"} +
           more;
  }

  Words table(const Words& more = {}) const {
    return Words{"data.format=csv",
                 "data.path=" + file("table.csv"),
                 "data.test_path=" + file("test.csv"),
                 "data.target=y",
                 "training.global_batch=24",
                 "training.epochs=2"} +
           more;
  }

  // The file is read by a dry run and by runs on 1 and 3 ranks: the same error, and no step.
  template <class Expected>
  void expect_refused(const Words& words, const std::string& message) {
    EXPECT_THAT(error_of<Expected>([&] { dry_run(runs_.config("dry", words), 3); }),
                HasSubstr(message));
    for (const int ranks : {1, 3}) {
      EXPECT_THAT(runs_.errors(fmt::format("run{}", ranks), ranks, words),
                  Each(HasSubstr(message)));
    }
    EXPECT_FALSE(std::filesystem::exists(runs_ / "run1" / "model.safetensors"));
    EXPECT_FALSE(std::filesystem::exists(runs_ / "run1" / "metrics.jsonl"));
  }

  Runs runs_{{"parallelism.strategy=replicated"}};
};

TEST_F(Trial, RefusesTestImagesOfAnotherSize) {
  write_idx(runs_ / "test_images", {2, 8, 9}, std::string(2 * 72, 'x'));
  write_idx(runs_ / "test_labels", {2}, std::string("\0\1", 2));
  expect_refused<DataError>(images(), "must be [1, 8, 8], as in");
}

TEST_F(Trial, RefusesATestLabelThatNoTrainingSampleHas) {
  write_idx(runs_ / "test_images", {2, 8, 8}, std::string(2 * 64, 'x'));
  write_idx(runs_ / "test_labels", {2}, std::string("\0\3", 2));
  expect_refused<DataError>(images(),
                            "labels must lie in [0, 3), the classes of the training data");
}

TEST_F(Trial, RefusesAnEmptyTestSet) {
  write_idx(runs_ / "test_images", {0, 8, 8}, "");
  write_idx(runs_ / "test_labels", {0}, "");
  expect_refused<DataError>(images(), "must hold images with pixels, holds 0 of [8, 8]");
  write_file_atomically(runs_ / "test.csv", "x0,x1,x2,y\n");
  expect_refused<DataError>(table(), "test.csv: must have rows, has none");
}

TEST_F(Trial, RefusesTestLabelsWithoutImages) {
  write_idx(runs_ / "test_labels", {2}, std::string("\0\1", 2));
  expect_refused<UsageError>(images({"data.test_images="}),
                             "data.test_images must name a file, got nothing");
}

TEST_F(Trial, RefusesTestRowsThatAreNotLikeThoseOfTheTrainingFile) {
  const std::pair<const char*, const char*> bad[] = {
      {"x0,x1,y\n1,2,3\n", "must have a column \"x2\""},
      {"x0,x1,x2,y\n1,2,3,4\n1,2,nan,4\n", "test.csv:3:5: column \"x2\" must"},
      {"x0,x1,x2,y\n1,2,3,4\n1,2,inf,4\n", "test.csv:3:5: column \"x2\" must be a number"},
      {"x0,x1,x2,y\n1,2,3,4\n1,2,3\n", "test.csv:3:6: a row must have 4 fields"},
      {"x0,x1,x2,y\n1,2,3,\n", "test.csv:2:7: column \"y\" must have a value"},
  };
  for (const auto& [rows, message] : bad) {
    SCOPED_TRACE(rows);
    write_file_atomically(runs_ / "test.csv", rows);
    expect_refused<DataError>(table(), message);
  }
}

TEST_F(Trial, RefusesTestValuesThatDoNotFitOnceTheyAreStandardized) {
  write_file_atomically(runs_ / "test.csv", "x0,x1,x2,y\n1,2,3,4\n1,2e39,3,4\n");
  expect_refused<DataError>(table({"data.standardize=true"}),
                            "sample 1 of the evaluation data (counted from 0) does not fit f32");
}

// As torch.jit.trace makes them: with the number of samples of its example.
std::string write_model_for(const Runs& runs, int samples) {
  torch::jit::Module model("model");
  model.register_parameter("weight", at::ones({3, 1}).requires_grad_(true), false);
  model.define(fmt::format(
      "def forward(self, x):\n  return torch.matmul(x.view({}, 3), self.weight)\n", samples));
  const std::string path = (runs / fmt::format("for-{}.pt", samples)).string();
  model.save(path);
  return path;
}

TEST_F(Trial, RefusesAModelThatDoesNotTakeTheLastStepOfAnEpoch) {
  // 60 samples in steps of 24: the last one has 12, and make_model() tries 2.
  const std::string path = write_model_for(runs_, 2);
  std::filesystem::copy(runs_ / "table.csv", runs_ / "test.csv");
  const Words words = table({"model.name=torchscript", "model.path=" + path,
                             "training.virtual_workers=12", "evaluation.batch=2"});
  expect_refused<DataError>(words, "(a pass of 1 sample, as step 3 of an epoch has it)");
}

TEST_F(Trial, RefusesAModelThatDoesNotTakeTheEvaluationsBatch) {
  const std::string path = write_model_for(runs_, 2);
  write_table(runs_ / "test.csv", 72);  // 6 of each virtual worker
  const Words words = table({"model.name=torchscript", "model.path=" + path,
                             "training.virtual_workers=12", "data.drop_last=true"});
  expect_refused<DataError>(words + Words{"evaluation.batch=4"},
                            "(a pass of 4 samples, as the evaluation has it)");
  runs_.train("fits", 3, words + Words{"evaluation.batch=2"});
}

}  // namespace
}  // namespace trireme::test
