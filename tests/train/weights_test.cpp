// Runs that begin with the values of a file (model.weights).

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "tests/comm/ranks.h"
#include "tests/formats/tensor_bytes.h"
#include "tests/train/runs.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/train/trainer.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::map<std::string, std::string> bytes_of(const NamedTensors& model) {
  std::map<std::string, std::string> bytes;
  for (const auto* group : {&model.parameters, &model.buffers}) {
    for (const auto& [name, tensor] : *group) {
      bytes[name].assign(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes());
    }
  }
  return bytes;
}

class Weights : public testing::Test {
 protected:
  // What each rank's model begins with.
  void expect_begins_with(const std::filesystem::path& file, const Words& words) {
    const auto wanted = tensor_bytes(file);
    for (const std::string& name : {kReplicated, kHostShared}) {
      for (const int ranks : {1, 2, 3}) {
        const Config config =
            runs_.config("none", words + strategy(name) + Words{"model.weights=" + file.string()});
        run_ranks(ranks, [&](Communicator& world) {
          Trainer trainer(config, check(config, ranks), world);
          EXPECT_TRUE(bytes_of(trainer.model().tensors()) == wanted)
              << name << " on " << ranks << " ranks";
          world.barrier();
        });
      }
    }
  }

  std::string weights_of(const std::string& run) const {
    return "model.weights=" + (runs_ / run / "model.safetensors").string();
  }

  Runs runs_;
};

TEST_F(Weights, AreTheValuesOfTheFileOnEveryRank) {
  const Words mlp = {"model.name=mlp", "model.hidden=[5]"};
  runs_.train("first", 2, mlp + Words{"training.seed=7"});
  expect_begins_with(runs_ / "first/model.safetensors", mlp);
}

// A weight under two names, and a buffer.
void write_script(const std::filesystem::path& path) {
  torch::jit::Module model("model");
  model.register_attribute("training", c10::BoolType::get(), true);
  model.register_parameter("weight", at::ones({7, 7}).requires_grad_(true), false);
  model.register_parameter("out", at::ones({1, 7}).requires_grad_(true), false);
  model.register_parameter("again", model.attr("weight").toTensor(), false);
  model.register_buffer("scale", at::full({1}, 2.0));
  model.define(
      "def forward(self, x):\n"
      "  h = torch.matmul(torch.matmul(x, self.weight.t()), self.again)\n"
      "  return torch.matmul(h, self.out.t()) * self.scale\n");
  model.save(path.string());
}

TEST_F(Weights, OfATorchScriptFileWithSharedTensorsAndBuffers) {
  const auto script = runs_ / "model.pt";
  write_script(script);
  const Words words = {"model.name=torchscript", "model.path=" + script.string(),
                       "optimizer.lr=1e-4"};
  runs_.train("first", 2, words);
  const auto file = runs_ / "first/model.safetensors";
  ASSERT_EQ(tensor_bytes(file).size(), 3u);
  expect_begins_with(file, words);
}

TEST_F(Weights, AreTrainedFurther) {
  runs_.train("first", 1);
  const Outcome further = runs_.train("second", 3, {weights_of("first"), "training.steps=5"});
  const Outcome anew = runs_.train("third", 3, {"training.steps=5"});
  EXPECT_LT(further.ranks[0].steps.front().loss, 0.5 * anew.ranks[0].steps.front().loss);
}

TEST_F(Weights, OfAnotherModelAreRefused) {
  runs_.train("first", 1, {"model.name=mlp", "model.hidden=[5]"});
  const auto refused = [&](const Words& words, const std::string& what) {
    const Words all = words + Words{weights_of("first")};
    EXPECT_THAT(runs_.errors("second", 2, all),
                Each(AllOf(HasSubstr("model.weights: "), HasSubstr(what))));
    EXPECT_THAT([&] { dry_run(runs_.config("second", all), 2); },
                ThrowsMessage<UsageError>(HasSubstr(what)));
  };
  refused({}, "has no tensor \"weight\", \"bias\"");
  refused({"model.name=mlp", "model.hidden=[6]"},
          "\"layers.0.weight\" is f32[5, 7] in the file and f32[6, 7] in the model");
  EXPECT_FALSE(std::filesystem::exists(runs_ / "second/config.toml"));
}

TEST_F(Weights, OfTheRunItselfAreRefused) {
  runs_.train("first", 1);
  EXPECT_THAT([&] { runs_.train("first", 1, {weights_of("first")}); },
              ThrowsMessage<UsageError>(HasSubstr("must lie outside of run.directory")));
}

// The path may be another one on each host, the file may not.
TEST_F(Weights, MustBeTheSameFileOnAllRanks) {
  runs_.train("first", 1);
  runs_.train("other", 1, {"training.steps=3"});
  const auto copy = runs_ / "copy.safetensors";
  std::filesystem::copy_file(runs_ / "first/model.safetensors", copy);
  const auto train = [&](const std::filesystem::path& of_last) {
    std::vector<std::string> errors(3);
    run_ranks(3, [&](Communicator& world) {
      const bool is_last = world.rank() == 2;
      const Config config = runs_.config(
          "run", {is_last ? "model.weights=" + of_last.string() : weights_of("first")});
      Recorder recorder;
      try {
        trireme::train(config, world, recorder);
      } catch (const UsageError& error) {
        errors[static_cast<std::size_t>(world.rank())] = error.what();
      }
    });
    return errors;
  };
  EXPECT_THAT(train(copy), Each(""));
  EXPECT_THAT(train(runs_ / "other/model.safetensors"),
              Each(AllOf(HasSubstr("the file of model.weights has the SHA-256"),
                         HasSubstr("on rank 0 and "), HasSubstr("on rank 2"))));
}

TEST_F(Weights, BelongToARunThatIsResumed) {
  runs_.train("first", 1);
  runs_.train("other", 1, {"training.steps=3"});
  const Words checkpoints = {"checkpoint.every_steps=10", "checkpoint.keep=9"};
  runs_.train("whole", 2, checkpoints + Words{weights_of("first")});
  const auto moved = runs_ / "moved.safetensors";
  std::filesystem::copy_file(runs_ / "first/model.safetensors", moved);
  runs_.copy_until("whole", "cut", 20);
  runs_.resume("cut", 3, checkpoints + Words{"model.weights=" + moved.string()});
  EXPECT_EQ(runs_.model("cut"), runs_.model("whole"));
  EXPECT_THAT([&] { runs_.resume("cut", 2, {weights_of("other")}); },
              ThrowsMessage<UsageError>(AllOf(HasSubstr("has begun with a file with the SHA-256"),
                                              HasSubstr("as model.weights"))));
  EXPECT_THAT([&] { runs_.resume("cut", 2); },
              ThrowsMessage<UsageError>(HasSubstr("now names no file")));
}

TEST_F(Weights, TheCodeOfATorchScriptFileBelongsToTheRunAsWell) {
  const auto script = runs_ / "model.pt";
  write_script(script);
  const Words words = {"model.name=torchscript", "model.path=" + script.string(),
                       "optimizer.lr=1e-4"};
  runs_.train("run", 1, words);
  torch::jit::Module model("model");
  model.register_attribute("training", c10::BoolType::get(), true);
  model.register_parameter("weight", at::ones({7, 7}).requires_grad_(true), false);
  model.register_parameter("out", at::ones({1, 7}).requires_grad_(true), false);
  model.register_buffer("scale", at::full({1}, 2.0));
  model.define(
      "def forward(self, x):\n"
      "  return torch.matmul(torch.matmul(x, self.weight), self.out.t()) * self.scale\n");
  model.save(script.string());
  EXPECT_THAT([&] { runs_.resume("run", 1, words + Words{"training.steps=50"}); },
              ThrowsMessage<UsageError>(HasSubstr("as model.path")));
}

}  // namespace
}  // namespace trireme::test
