// A checkpoint, an evaluation or an interrupt changes no training: in every mode in which ranks do
// not race with each other, a run that was disturbed ends with the bits of one that was not.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <span>

#include "tests/train/runs.h"
#include "tests/train/samples.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/checkpoint.h"

namespace trireme::test {
namespace {

using testing::IsEmpty;

struct Way {
  const char* name;
  Words words;
  bool has_buffers = false;  // of batch normalization, which the linear model does not have
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

Words compression(const std::string& codec) {
  return {"communication.compression=" + codec};
}

Words sparse(const std::string& codec) {
  return compression(codec) + Words{"communication.compression_ratio=0.2"};
}

Words power_sgd() {
  return {"model.name=mlp", "model.hidden=[9]", "communication.compression=power_sgd"};
}

std::vector<Way> ways() {
  const Words in_one_group = {"communication.group_size=0"};
  const Words in_pairs = {"communication.group_size=2"};
  const Words in_fragments = diloco() + Words{"communication.fragments=4"};
  const Words late = diloco() + Words{"communication.delay=3"};
  const Words averages = local_sgd() + Words{"communication.fragments=2", "communication.delay=1"};
  return {
      {"replicated", {}},
      {"momentum", {"optimizer.name=sgd", "optimizer.momentum=0.9"}},
      {"clipped", {"training.clip_norm=0.5", "optimizer.name=adamw"}},
      {"block_sampler", {"data.sampler=block"}},
      {"reading_ahead", {"data.prefetch_steps=4"}},
      {"cosine", {"lr_scheduler.name=cosine", "lr_scheduler.warmup_steps=15"}},
      {"dropout", {"model.name=mlp", "model.hidden=[9]", "model.dropout=0.5"}},
      {"batch_norm", {}, true},
      {"host_shared", strategy(kHostShared)},
      {"parameter_server", strategy(kParameterServer) + Words{"communication.server_shards=2"}},
      {"int8", compression("int8")},
      {"top_k", sparse("top_k")},
      {"random_k", sparse("random_k")},
      {"power_sgd", power_sgd()},
      {"local_sgd", local_sgd()},
      {"local_sgd_late", local_sgd() + Words{"communication.delay=3", "communication.mix=0"}},
      {"diloco", diloco()},
      {"diloco_in_pairs", diloco_in_pairs()},
      {"diloco_batch_norm", diloco(), true},
      {"streaming", streaming_diloco()},
      {"streaming_fragments", in_fragments},
      {"streaming_late", late},
      {"streaming_averages", averages},
      {"streaming_in_pairs", streaming_diloco() + in_pairs},
      {"streaming_in_one_group", streaming_diloco() + in_one_group},
      {"streaming_batch_norm", streaming_diloco(), true},
      {"streaming_int8", streaming_diloco() + compression("int8")},
      {"streaming_random_k", averages + sparse("random_k")},
      {"streaming_power_sgd", streaming_diloco() + power_sgd()},
      {"asynchronous_in_one_group", asynchronous() + in_one_group},
      {"asynchronous_int8", asynchronous() + in_one_group + compression("int8")},
      {"bounded_staleness_in_one_group", bounded_staleness() + in_one_group},
  };
}

class EachWay : public testing::TestWithParam<Way> {
 protected:
  EachWay() {
    if (!GetParam().has_buffers) return;
    write_images(runs_.folder().path());
    words_ = words_ + Words{"data.format=idx",
                            "data.images=" + (runs_ / "images").string(),
                            "data.labels=" + (runs_ / "labels").string(),
                            "model.name=cnn",
                            "model.channels=[2]",
                            "model.dropout=0.25",
                            "training.virtual_workers=4",
                            "training.global_batch=16"};
  }

  void expect_undisturbed(const std::string& run, const std::string& how) const {
    EXPECT_EQ(runs_.model(run), runs_.model("whole")) << how;
  }

  Runs runs_;
  Words words_ = GetParam().words + Words{"training.steps=20"};
};

TEST_P(EachWay, EndsWithTheBitsOfAnUndisturbedRun) {
  const Words often =
      words_ + Words{"evaluation.every_steps=1", "checkpoint.every_steps=1", "checkpoint.keep=100"};
  for (int ranks = 1; ranks <= 4; ++ranks) {
    SCOPED_TRACE(fmt::format("{} ranks", ranks));
    runs_.train("whole", ranks, words_);
    runs_.train("disturbed", ranks, often);
    expect_undisturbed("disturbed", "evaluated and saved after each step");

    // Between two exchanges of all parameters, before or after one of a fragment.
    const int step = 11 + ranks;
    runs_.copy_until("disturbed", "cut", step);
    const Outcome resumed = runs_.resume("cut", ranks, words_, {.rank = ranks - 1, .step = 16});
    EXPECT_THAT(resumed.ranks.front().start.not_restored, IsEmpty());
    EXPECT_EQ(runs_.resume("cut", ranks, words_).summaries.front().steps, 20);
    expect_undisturbed("cut", fmt::format("killed after step {}, later interrupted", step));
  }
}

INSTANTIATE_TEST_SUITE_P(Undisturbed, EachWay, testing::ValuesIn(ways()),
                         [](const auto& info) { return info.param.name; });

// Each forward pass counts, in evaluation as well, and what is learnt depends on the count.
void write_model_that_counts(const std::filesystem::path& path) {
  torch::jit::Module model("model");
  model.register_parameter("weight", at::ones({1, 7}).requires_grad_(true), false);
  model.register_buffer("count", at::zeros({1}));
  model.register_attribute("training", c10::BoolType::get(), true);
  model.define(
      "def forward(self, x):\n"
      "  self.count.add_(1.0)\n"
      "  return torch.matmul(x, self.weight.t()) * (1.0 + 0.001 * self.count)\n");
  model.save(path.string());
}

TEST(Evaluation, GivesBuffersTheirValuesBack) {
  Runs runs;
  write_model_that_counts(runs / "model.pt");
  for (const Words& mode : {Words(), local_sgd(), streaming_diloco()}) {
    const Words words = mode + Words{"model.name=torchscript", "training.steps=20",
                                     "model.path=" + (runs / "model.pt").string()};
    for (int ranks = 1; ranks <= 3; ++ranks) {
      runs.train("whole", ranks, words);
      runs.train("evaluated", ranks, words + Words{"evaluation.every_steps=1"});
      EXPECT_EQ(runs.model("evaluated"), runs.model("whole")) << ranks << " ranks";
    }
  }
}

// Ranks that do not wait for each other have other bits in each run, but every gradient counts
// once: each is -2^41, whatever the parameters are, and is worth 1 with a learning rate of 2^-41.
class EachAsynchronousMode : public testing::TestWithParam<Words> {
 protected:
  EachAsynchronousMode()
      : runs_({"data.format=csv", "data.target=y", "model.init=zero", "optimizer.name=sgd",
               "optimizer.lr=4.547473508864641e-13", "training.global_batch=24",
               "training.virtual_workers=12", "training.steps=20", "evaluation.every_steps=1",
               "checkpoint.every_steps=1", "checkpoint.keep=100"}) {
    std::string table = "x,y\n";
    for (int row = 0; row < 48; ++row) table += "1,1099511627776\n";  // 2^40
    write_file_atomically(runs_ / "table.csv", table);
    words_ = GetParam() + Words{"data.path=" + (runs_ / "table.csv").string(),
                                "data.test_path=" + (runs_ / "table.csv").string()};
  }

  static double gradients(const Outcome& outcome) {
    double count = 0;
    for (const Recorder& rank : outcome.ranks) count += static_cast<double>(rank.steps.size());
    return count;
  }

  void expect_counted(const std::string& run, double gradients) const {
    for (const auto& [name, tensor] : runs_.tensors(run)) {
      EXPECT_EQ(tensor.item<double>(), gradients) << run << ": " << name;
    }
  }

  double weight_in_checkpoint(const std::string& run, int step) const {
    float weight = 0;
    const StateTensor wanted{.name = "model.weight",
                             .region = Region({1, 1}),
                             .values = buffer_of(std::span(&weight, 1))};
    load_checkpoint(runs_ / run / "checkpoints" / fmt::format("step-{}", step), {&wanted, 1});
    return weight;
  }

  Runs runs_;
  Words words_;
};

TEST_P(EachAsynchronousMode, CountsEachGradientOnce) {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    SCOPED_TRACE(fmt::format("{} ranks", ranks));
    const double whole = gradients(runs_.train("whole", ranks, words_));
    EXPECT_EQ(whole, ranks * 20);
    expect_counted("whole", whole);

    runs_.copy_until("whole", "killed", 9);
    const double before = weight_in_checkpoint("killed", 9);
    EXPECT_GE(before, 9);
    expect_counted("killed", before + gradients(runs_.resume("killed", ranks, words_)));

    const double first = gradients(runs_.train("stopped", ranks, words_, {.rank = -1, .step = 7}));
    expect_counted("stopped", first + gradients(runs_.resume("stopped", ranks, words_)));
  }
}

INSTANTIATE_TEST_SUITE_P(Undisturbed, EachAsynchronousMode,
                         testing::Values(asynchronous(), bounded_staleness()),
                         [](const auto& info) {
                           return info.index == 0 ? "asynchronous" : "bounded_staleness";
                         });

}  // namespace
}  // namespace trireme::test
