#include "trireme/model/script_block.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "trireme/base/error.h"
#include "trireme/model/loss.h"
#include "trireme/model/make_model.h"

namespace trireme {
namespace {

using testing::HasSubstr;

class ScriptFile : public testing::Test {
 protected:
  ScriptFile()
      : path_(std::filesystem::temp_directory_path() /
              ("script_block_test-" + std::to_string(::getpid()) + ".pt")) {}
  ~ScriptFile() override { std::filesystem::remove(path_); }

  // y = fc(x) in a submodule with a scale that is not trained and a counter; [n, 3] to [n, 2].
  void write_linear(const std::string& forward =
                        "def forward(self, x):\n  return self.fc.forward(x) * self.scale\n") {
    torch::jit::Module fc("fc"), model("model");
    fc.register_parameter("weight", at::ones({2, 3}).requires_grad_(true), false);
    fc.register_parameter("bias", at::zeros({2}).requires_grad_(true), false);
    fc.define("def forward(self, x):\n  return torch.matmul(x, self.weight.t()) + self.bias\n");
    model.register_module("fc", fc);
    model.register_buffer("scale", at::ones({1}));
    model.register_buffer("count", at::zeros({1}, at::kLong));
    model.register_attribute("training", c10::BoolType::get(), true);
    model.define(forward);
    model.save(path_.string());
  }

  void write_bytes(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }

  std::string complaint() {
    try {
      ScriptBlock model(path_);
    } catch (const DataError& error) {
      return error.what();
    }
    return "accepted";
  }

  std::filesystem::path path_;
};

TEST_F(ScriptFile, NamesItsTensorsWithDots) {
  write_linear();
  const NamedTensors tensors = ScriptBlock(path_).tensors();
  ASSERT_EQ(tensors.parameters.size(), 2u);
  EXPECT_EQ(tensors.parameters[0].first, "fc.weight");
  EXPECT_EQ(tensors.parameters[1].first, "fc.bias");
  ASSERT_EQ(tensors.buffers.size(), 2u);
  EXPECT_EQ(tensors.buffers[0].first, "scale");
}

// In two submodules, as an encoder and a decoder have it, and as a buffer of two names.
TEST_F(ScriptFile, HasOneTensorForSeveralNames) {
  const at::Tensor weight = at::ones({3, 3}).requires_grad_(true);
  const at::Tensor table = at::ones({2});
  torch::jit::Module model("model");
  for (const char* name : {"encoder", "decoder"}) {
    torch::jit::Module part(name);
    part.register_parameter("weight", weight, false);
    part.register_buffer("table", table);
    part.define("def forward(self, x):\n  return torch.matmul(x, self.weight)\n");
    model.register_module(name, part);
  }
  model.define("def forward(self, x):\n  return self.decoder.forward(self.encoder.forward(x))\n");
  model.save(path_.string());

  std::vector<std::unique_ptr<Block>> blocks;
  blocks.push_back(std::make_unique<ScriptBlock>(path_));
  Model loaded(std::move(blocks));
  const NamedTensors tensors = loaded.tensors();
  ASSERT_EQ(tensors.parameters.size(), 1u);
  EXPECT_EQ(tensors.parameters[0].first, "encoder.weight");
  EXPECT_EQ(tensors.buffers.size(), 1u);
  loaded.forward(at::ones({1, 3})).sum().backward();
  // d/dW sum(1 W W) = 1^T (1 W^T) + (1 W)^T 1: 3 + 3 with W = 1.
  EXPECT_TRUE(tensors.parameters[0].second.grad().allclose(at::full({3, 3}, 6.0)))
      << tensors.parameters[0].second.grad();
}

TEST_F(ScriptFile, LearnsInMemoryThatWasGivenToItsParameters) {
  write_linear();
  ScriptBlock model(path_);
  std::vector<at::Tensor> memory;
  for (auto& [name, parameter] : model.tensors().parameters) {
    memory.push_back(at::zeros_like(parameter).detach());
    at::Tensor moved = parameter;
    moved.set_data(memory.back());
  }
  at::manual_seed(2);
  const at::Tensor x = at::randn({20, 3});
  EXPECT_EQ(model.forward(x).count_nonzero().item<int>(), 0);

  const at::Tensor weight = at::randn({2, 3});
  const at::Tensor y = x.mm(weight.t()) + 0.5;
  const Loss loss = make_loss(Target::numbers(2));
  for (int step = 0; step < 300; ++step) {
    loss(model.forward(x), y).sum.div(20).backward();
    for (std::size_t i = 0; i < memory.size(); ++i) {
      const at::NoGradGuard no_grad;
      at::Tensor parameter = model.tensors().parameters[i].second;
      memory[i].sub_(parameter.grad(), 0.5);
      parameter.mutable_grad().reset();
    }
  }
  EXPECT_TRUE(at::allclose(memory[0], weight, 1e-3, 1e-4));
  EXPECT_TRUE(at::allclose(memory[1], at::full({2}, 0.5), 1e-3, 1e-4));
}

TEST_F(ScriptFile, DistinguishesTrainingFromEvaluation) {
  write_linear(
      "def forward(self, x):\n"
      "  if self.training:\n    return self.fc.forward(x)\n"
      "  return self.fc.forward(x) * 0\n");
  ScriptBlock model(path_);
  model.train(true);
  EXPECT_EQ(model.forward(at::ones({1, 3})).count_nonzero().item<int>(), 2);
  model.train(false);
  EXPECT_EQ(model.forward(at::ones({1, 3})).count_nonzero().item<int>(), 0);
}

TEST_F(ScriptFile, IsMadeFromOptionsInTheTypeAskedFor) {
  write_linear();
  ModelOptions options;
  options.name = "torchscript";
  options.path = path_;
  options.dtype = "f64";
  const std::vector<std::int64_t> input = {3};
  const auto model = make_model(options, input, Target::numbers(2));
  const NamedTensors tensors = model->tensors();
  EXPECT_TRUE(tensors.parameters[0].second.equal(at::ones({2, 3}, at::kDouble)));
  EXPECT_EQ(tensors.buffers[1].second.scalar_type(), at::kLong);
  EXPECT_EQ(model->forward(at::ones({4, 3}, at::kDouble)).scalar_type(), at::kDouble);

  options.init = "zero";
  const auto zeroed = make_model(options, input, Target::numbers(2));
  EXPECT_EQ(zeroed->tensors().parameters[0].second.count_nonzero().item<int>(), 0);
}

TEST_F(ScriptFile, ThatDoesNotSuitTheDataIsRefusedAtOnce) {
  write_linear();
  ModelOptions options;
  options.name = "torchscript";
  options.path = path_;
  const auto refusal = [&](std::vector<std::int64_t> input, Target target) -> std::string {
    try {
      make_model(options, input, target);
    } catch (const DataError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal({3}, Target::one_of(5)), HasSubstr("must give [2, 5]"));
  const std::string wrong_input = refusal({4}, Target::numbers(2));
  EXPECT_THAT(wrong_input, HasSubstr("forward of a tensor [2, 4] failed: RuntimeError: mat1"));
  EXPECT_THAT(wrong_input, testing::Not(HasSubstr("\n")));
}

TEST_F(ScriptFile, ThatIsNoModuleSaysHowToWriteOne) {
  EXPECT_THROW(ScriptBlock("/nowhere/model.pt"), UsageError);
  write_bytes("");
  EXPECT_THAT(complaint(), HasSubstr("torch.jit.script(model).save(path)"));
  write_bytes("a,b\n1,2\n");
  EXPECT_THAT(complaint(), HasSubstr("not a TorchScript module"));
  write_linear();
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  EXPECT_THAT(complaint(), HasSubstr("not a TorchScript module"));
}

TEST_F(ScriptFile, WithoutParametersOrForwardIsRefused) {
  torch::jit::Module empty("empty");
  empty.define("def forward(self, x):\n  return x\n");
  empty.save(path_.string());
  EXPECT_THAT(complaint(), HasSubstr("no parameters"));
  torch::jit::Module fixed("fixed");
  fixed.register_parameter("weight", at::ones({2}), false);
  fixed.define("def forward(self, x):\n  return x * self.weight\n");
  fixed.save(path_.string());
  EXPECT_THAT(complaint(), HasSubstr("must require a gradient, none does"));
  torch::jit::Module silent("silent");
  silent.register_parameter("weight", at::ones({2}).requires_grad_(true), false);
  silent.define("def run(self, x):\n  return x\n");
  silent.save(path_.string());
  EXPECT_THAT(complaint(), HasSubstr("no forward method"));
}

TEST_F(ScriptFile, MustReturnOneTensor) {
  write_linear("def forward(self, x):\n  return (x, self.fc.forward(x))\n");
  ScriptBlock model(path_);
  EXPECT_THROW(model.forward(at::ones({1, 3})), DataError);
}

}  // namespace
}  // namespace trireme
