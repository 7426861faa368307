// Of each kind of memory as much as its closed form says, in every mode of recomputation.

#include "trireme/train/step_memory.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/comm/ranks.h"
#include "tests/train/words.h"
#include "trireme/comm/self/self.h"

namespace trireme {
namespace {

using test::Words;
using test::operator+;

constexpr std::int64_t kVocabulary = 257, kContext = 32, kLayers = 2, kWidth = 48, kHeads = 3;
constexpr std::int64_t kSamples = 4;  // of a micro-batch

Words transformer(const std::string& name) {
  return {"data.format=text",
          "data.tokenizer=bytes",
          "model.name=" + name,
          fmt::format("model.context={}", kContext),
          fmt::format("model.layers={}", kLayers),
          fmt::format("model.width={}", kWidth),
          fmt::format("model.heads={}", kHeads),
          "optimizer.name=adamw",
          "training.threads=1"};
}

StepMemory measure(const Words& words, Communicator& world) {
  const Words batch = {fmt::format("training.global_batch={}", kSamples * world.size())};
  return measure_memory(parse_config("", "test", words + batch), world);
}

StepMemory measure_alone(const Words& words) {
  return measure(words, *self_communicator());
}

MemoryLine line(const StepMemory& memory, const std::string& kind) {
  const MemoryLine* const found = memory.find(kind);
  if (found == nullptr) throw std::runtime_error("no line of " + kind);
  return *found;
}

double ratio(const MemoryLine& line) {
  return static_cast<double>(line.measured.value()) / static_cast<double>(line.formula.value());
}

// Written down for the shape of this test, once more.
std::int64_t gpt2_parameters() {
  constexpr std::int64_t h = kWidth;
  const std::int64_t of_layer = (3 * h * h + 3 * h) + (h * h + h) + 2 * (4 * h * h) + 5 * h + 4 * h;
  return kVocabulary * h + kContext * h + kLayers * of_layer + 2 * h;
}

class Recomputation : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(Recomputation, KeepsTheActivationsOfTheFormula) {
  const auto [model, recompute] = GetParam();
  const StepMemory memory =
      measure_alone(transformer(model) + Words{std::string("parallelism.recompute=") + recompute});
  EXPECT_EQ(memory.micro_batch, kSamples);
  for (const char* kind : {"activations", "activations of a layer"}) {
    const MemoryLine found = line(memory, kind);
    EXPECT_LE(ratio(found), 1.05) << kind << ": " << found.text;
    EXPECT_GE(ratio(found), 1) << kind << ": the formula is what no implementation goes below";
  }
}

INSTANTIATE_TEST_SUITE_P(StepMemory, Recomputation,
                         testing::Combine(testing::Values("gpt2", "llama"),
                                          testing::Values("none", "selective", "full")),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "With" +
                                  std::get<1>(info.param);
                         });

TEST(StepMemory, HasFormulasThatDependOnRecomputation) {
  constexpr std::int64_t s = kContext, b = kSamples, h = kWidth, a = kHeads;
  const auto formula = [](const char* recompute) {
    const StepMemory memory = measure_alone(
        transformer("gpt2") + Words{std::string("parallelism.recompute=") + recompute});
    return line(memory, "activations of a layer").formula;
  };
  EXPECT_EQ(formula("none"), s * b * (64 * h + 4 * a * s));
  EXPECT_EQ(formula("selective"), 64 * s * b * h);
  EXPECT_EQ(formula("full"), 4 * s * b * h);
}

TEST(StepMemory, OfDropoutIsThatWithoutSinceMasksAreComputedAgain) {
  const StepMemory memory = measure_alone(transformer("gpt2") + Words{"model.dropout=0.1"});
  EXPECT_LE(ratio(line(memory, "activations")), 1.05);
}

TEST(StepMemory, OfTheLossIsItsGradientsAndAPartOfTheLogits) {
  const StepMemory memory = measure_alone(transformer("gpt2") + Words{"model.vocabulary=50000"});
  const MemoryLine kept = line(memory, "loss, kept");
  EXPECT_EQ(kept.formula, 4 * kWidth * (kSamples * kContext + 50000));
  EXPECT_LE(ratio(kept), 1.05);
  EXPECT_GE(ratio(kept), 1);
  const MemoryLine beyond = line(memory, "loss, beyond that");
  EXPECT_EQ(beyond.formula, 4 * kSamples * kContext * 50000);
  // Of these few tokens the smallest chunk, 64, is a half.
  EXPECT_GE(ratio(beyond), 0.5);
  EXPECT_LE(ratio(beyond), 0.52);
}

TEST(StepMemory, AddsUpToThePeak) {
  const StepMemory memory = measure_alone(transformer("gpt2"));
  std::int64_t sum = 0;
  for (const char* kind : {"parameters", "gradients", "optimizer state", "data", "activations",
                           "loss, kept", "temporaries"}) {
    const std::int64_t bytes = line(memory, kind).measured.value();
    EXPECT_GE(bytes, 0) << kind;
    sum += bytes;
  }
  EXPECT_EQ(line(memory, "sum at the peak").measured, sum);
}

TEST(StepMemory, OfAnMlpIsTheInputsOfItsLayers) {
  const auto activations = [](const Words& words) {
    const StepMemory memory = measure_alone(Words{"data.features_count=7", "data.samples=100",
                                                  "model.name=mlp", "model.hidden=[50,30]"} +
                                            words);
    const MemoryLine found = line(memory, "activations");
    EXPECT_EQ(found.measured, found.formula) << found.text;
    return found.measured.value();
  };
  EXPECT_EQ(activations({}), 4 * kSamples * (50 + 30 + 1));
  EXPECT_EQ(activations({"model.activation=tanh"}), 4 * kSamples * (50 + 30 + 1));
  EXPECT_EQ(activations({"model.activation=gelu"}), 4 * kSamples * (2 * (50 + 30) + 1));
  EXPECT_EQ(activations({"parallelism.recompute=full"}), 4 * kSamples * (50 + 30 + 1));
  EXPECT_EQ(activations({"training.precision=f64"}), 8 * kSamples * (50 + 30 + 1));
}

struct OptimizerCase {
  Words words;
  double bytes;  // a parameter
};

class OptimizerState : public testing::TestWithParam<OptimizerCase> {};

TEST_P(OptimizerState, HasTheBytesOfItsArrays) {
  const StepMemory memory = measure_alone(transformer("gpt2") + GetParam().words);
  const MemoryLine state = line(memory, "optimizer state");
  EXPECT_EQ(state.measured, GetParam().bytes * static_cast<double>(gpt2_parameters()));
  EXPECT_EQ(state.measured, state.formula) << state.text;
}

INSTANTIATE_TEST_SUITE_P(
    StepMemory, OptimizerState,
    testing::Values(
        OptimizerCase{{"optimizer.name=sgd"}, 0},
        OptimizerCase{{"optimizer.name=sgd", "optimizer.momentum=0.9"}, 4},
        OptimizerCase{{"optimizer.name=adam"}, 8}, OptimizerCase{{"optimizer.name=lamb"}, 8},
        OptimizerCase{{"optimizer.name=adagrad"}, 4}, OptimizerCase{{"optimizer.name=ftrl"}, 8},
        OptimizerCase{{"optimizer.name=rmsprop"}, 4},
        OptimizerCase{
            {"optimizer.name=rmsprop", "optimizer.centered=true", "optimizer.momentum=0.9"}, 12}),
    [](const auto& info) { return fmt::format("Number{}", info.index); });

// The matrices of layers have one array, all else two.
TEST(StepMemory, OfMuonDependsOnTheParameter) {
  const StepMemory memory = measure_alone(transformer("gpt2") + Words{"optimizer.name=muon"});
  const std::int64_t matrices = kLayers * 12 * kWidth * kWidth;
  const MemoryLine state = line(memory, "optimizer state");
  EXPECT_EQ(state.measured, 8 * gpt2_parameters() - 4 * matrices);
  EXPECT_EQ(state.measured, state.formula);
}

// In processes of their own: a process has one allocator.
class Ranks : public testing::TestWithParam<int> {};

TEST_P(Ranks, ReplicateWhatReplicatedHolds) {
  const int ranks = GetParam();
  test::expect_all_well(test::run_rank_processes(ranks, [](Communicator& world) {
    const StepMemory memory = measure(transformer("gpt2"), world);
    EXPECT_EQ(line(memory, "parameters").measured, 4 * gpt2_parameters());
    EXPECT_EQ(line(memory, "gradients").measured, 4 * gpt2_parameters());
    EXPECT_EQ(line(memory, "optimizer state").measured, 8 * gpt2_parameters());
    for (const char* kind : {"parameters", "gradients", "optimizer state"}) {
      EXPECT_EQ(line(memory, kind).measured, line(memory, kind).formula) << kind;
    }
    EXPECT_LE(ratio(line(memory, "activations")), 1.05);
  }));
}

TEST_P(Ranks, ShareWhatHostSharedHolds) {
  const int ranks = GetParam();
  test::expect_all_well(test::run_rank_processes(ranks, [ranks](Communicator& world) {
    const StepMemory memory = measure(transformer("gpt2") + test::strategy("host_shared"), world);
    EXPECT_EQ(line(memory, "parameters").measured, (4 * gpt2_parameters() + ranks - 1) / ranks);
    EXPECT_EQ(line(memory, "gradients").measured, 4 * gpt2_parameters());
    // Ranks have whole blocks of elements, some of which are the short last one of a parameter.
    const MemoryLine state = line(memory, "optimizer state");
    EXPECT_GE(ratio(state), 1);
    EXPECT_LE(ratio(state), ranks == 1 ? 1 : 1.25) << state.text;
  }));
}

TEST_P(Ranks, HoldTheirPartsInEachStage) {
  const int ranks = GetParam();
  test::expect_all_well(test::run_rank_processes(ranks, [ranks](Communicator& world) {
    for (const int stage : {1, 2, 3}) {
      const StepMemory memory =
          measure(transformer("gpt2") + Words{fmt::format("parallelism.shard={}", stage)}, world);
      const double p = static_cast<double>(gpt2_parameters());
      EXPECT_EQ(line(memory, "parameters").formula, stage < 3 ? 4 * p : std::ceil(p / ranks) * 4);
      EXPECT_EQ(line(memory, "gradients").formula, stage < 2 ? 4 * p : std::ceil(p / ranks) * 4);
      EXPECT_EQ(line(memory, "optimizer state").formula, std::ceil(2 * p / ranks) * 4);
      for (const char* kind : {"parameters", "gradients", "optimizer state"}) {
        // Pieces are cut at blocks of elements, and this model has few.
        EXPECT_LE(ratio(line(memory, kind)), 1.25) << kind << " in stage " << stage;
        EXPECT_GE(ratio(line(memory, kind)), 0.99) << kind << " in stage " << stage;
      }
      EXPECT_EQ(memory.find("gathered"), nullptr);
      EXPECT_EQ(memory.find("buckets") != nullptr, stage > 1);
    }
  }));
}

INSTANTIATE_TEST_SUITE_P(StepMemory, Ranks, testing::Values(1, 2, 3));

// More micro-batches than one need rows for the partial sums of the tree.
TEST(StepMemory, HasARowOfGradientsForEachPartialSum) {
  const StepMemory memory =
      measure_alone(transformer("gpt2") + Words{"training.virtual_workers=4"});
  const MemoryLine gradients = line(memory, "gradients");
  EXPECT_EQ(gradients.measured, gradients.formula);
  EXPECT_GT(gradients.measured.value(), 4 * gpt2_parameters());
  EXPECT_EQ(memory.micro_batch, 1);
}

TEST(StepMemory, SaysWhatItCannotTell) {
  const StepMemory memory = measure_alone(transformer("gpt2") + test::local_sgd());
  EXPECT_EQ(line(memory, "gradients").measured, std::nullopt);
  EXPECT_EQ(line(memory, "gradients").formula, std::nullopt);
  EXPECT_LE(ratio(line(memory, "activations")), 1.05);
}

}  // namespace
}  // namespace trireme
