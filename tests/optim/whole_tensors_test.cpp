// What LAMB and Muon do with whole tensors, beside their formulas.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/optim/parameters.h"
#include "trireme/base/error.h"
#include "trireme/kernels/matrix_product.h"
#include "trireme/kernels/norm.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/lamb.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/optim/matrix_shape.h"
#include "trireme/optim/muon.h"
#include "trireme/optim/orthogonalize.h"

namespace trireme {
namespace {

using Groups = std::vector<ParameterGroup>;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

// A parameter of [rows, columns] with gradients of its own.
struct Matrix {
  Matrix(std::string name, TensorShape shape)
      : values(static_cast<std::size_t>(elements_of(shape))), gradient(values.size()) {
    shards.push_back({std::move(name),
                      Region(std::move(shape)),
                      buffer_of(std::span(values)),
                      {gradient.data()}});
  }

  std::vector<double> values, gradient;
  std::vector<Shard> shards;
};

void fill(Matrix& matrix) {
  const CounterRandom random(3);
  for (std::size_t i = 0; i < matrix.values.size(); ++i) {
    matrix.values[i] = random.normal(i);
    matrix.gradient[i] = random.normal(i + 1000);
  }
}

std::vector<double> transposed(const std::vector<double>& values, std::size_t columns) {
  std::vector<double> result;
  for (std::size_t j = 0; j < columns; ++j) {
    for (std::size_t i = j; i < values.size(); i += columns) result.push_back(values[i]);
  }
  return result;
}

TEST(WholeTensors, AreWhatLambAndMuonUpdate) {
  Parameters<float> pieces({10'000}, 4096);
  EXPECT_THAT([&] { Lamb lamb(pieces.shards()); },
              ThrowsMessage<UsageError>(HasSubstr(
                  "lamb: p0 must be a whole parameter, since the trust ratio is taken from the "
                  "norms of the whole parameter, got its elements [0:4096]; use a strategy")));
  EXPECT_NO_THROW(Muon(pieces.shards()));  // a vector: for AdamW
  for (Shard& shard : pieces.shards()) {
    shard.region = Region({100, 100}).slice(shard.region.range());
  }
  EXPECT_THAT([&] { Muon muon(pieces.shards()); },
              ThrowsMessage<UsageError>(HasSubstr(
                  "muon: p0 must be a whole parameter, since Newton-Schulz iterations multiply")));
}

TEST(WholeTensors, OfLambMoveByTheirNormTimesTheRate) {
  Parameters<float> parameters({10'000, 3});
  const auto before = parameters.values();
  Lamb lamb(parameters.shards(), {.lr = 0.01});
  parameters.draw_gradients(1);
  lamb.step();
  for (std::size_t p = 0; p < before.size(); ++p) {
    double norm = 0, moved = 0;
    for (std::size_t i = 0; i < before[p].size(); ++i) {
      norm += std::pow(before[p][i], 2.0);
      moved += std::pow(before[p][i] - parameters.values()[p][i], 2.0);
    }
    EXPECT_NEAR(std::sqrt(moved), 0.01 * std::sqrt(norm), 1e-5 * std::sqrt(norm));
  }
}

TEST(Muon, TakesTheShapeOfAMatrixFromItsLayer) {
  const auto is_transposed = [](const std::string& layer, TensorShape shape) {
    return matrix_shape_of({"h.0." + layer + ".weight", std::move(shape)}).is_transposed;
  };
  // Hugging Face's GPT-2, then nanoGPT's.
  EXPECT_TRUE(is_transposed("attn.c_attn", {8, 24}));
  EXPECT_TRUE(is_transposed("mlp.c_fc", {8, 32}));
  EXPECT_TRUE(is_transposed("mlp.c_proj", {32, 8}));
  EXPECT_FALSE(is_transposed("attn.c_attn", {24, 8}));
  EXPECT_FALSE(is_transposed("mlp.c_fc", {32, 8}));
  EXPECT_FALSE(is_transposed("mlp.c_proj", {8, 32}));
  EXPECT_FALSE(is_transposed("attn.c_proj", {8, 8}));
  EXPECT_FALSE(is_transposed("mlp.up_proj", {8, 32}));
  const MatrixShape convolution = matrix_shape_of({"conv.weight", {16, 3, 5, 5}});
  EXPECT_EQ(convolution.outputs(), 16);
  EXPECT_EQ(convolution.inputs(), 75);
  EXPECT_THAT(
      [] {
        matrix_shape_of({"w", {8}});
      },
      ThrowsMessage<UsageError>(HasSubstr("w must be a matrix, got 1 dimensions")));
}

TEST(Muon, UpdatesATransposedWeightByTheTransposedUpdate) {
  Matrix linear("mlp.up.weight", {20, 5});
  Matrix conv1d("mlp.c_fc.weight", {5, 20});
  fill(linear);
  conv1d.values = transposed(linear.values, 5);
  conv1d.gradient = transposed(linear.gradient, 5);
  conv1d.shards[0].values = buffer_of(std::span(conv1d.values));
  conv1d.shards[0].gradient = {conv1d.gradient.data()};
  for (auto* matrix : {&linear, &conv1d}) Muon(matrix->shards, {.weight_decay = 0.1}).step();
  const auto wanted = transposed(linear.values, 5);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_NEAR(conv1d.values[i], wanted[i], 1e-13) << i;
  }
}

TEST(Muon, LeavesAllButHiddenMatricesToAdamW) {
  for (const char* name : {"wte.weight", "lm_head.weight", "fc.bias"}) {
    Matrix ours(name, {6, 7}), theirs(name, {6, 7});
    fill(ours);
    fill(theirs);
    Muon muon(ours.shards, {.lr = 0.2, .weight_decay = 0.1});
    AdamW adamw(theirs.shards, {.lr = 0.2 * 0.015, .weight_decay = 0.1});
    for (int step = 0; step < 3; ++step) {
      muon.step();
      adamw.step();
    }
    EXPECT_EQ(ours.values, theirs.values) << name;
  }
}

TEST(Muon, FollowsTheRuleOfAGroup) {
  Matrix last("fc3.weight", {6, 7});
  fill(last);
  const auto state_of = [&](const Groups& groups) {
    const auto muon = make_optimizer({.name = "muon", .groups = groups}, last.shards);
    std::vector<std::string> names;
    for (const StateTensor& tensor : muon->state()) names.push_back(tensor.name);
    return names;
  };
  EXPECT_THAT(state_of({}), ElementsAre("fc3.weight.step", "fc3.weight.momentum_buffer"));
  EXPECT_THAT(state_of({{.match = "fc3.*", .rule = "adamw"}}),
              ElementsAre("fc3.weight.step", "fc3.weight.exp_avg", "fc3.weight.exp_avg_sq"));
  Matrix embedding("wte.weight", {6, 7});
  Muon muon(embedding.shards);
  muon.set_groups(Groups{{.kind = "embedding", .rule = "muon"}});
  EXPECT_EQ(muon.state().size(), 2u);
  muon.step();
  EXPECT_THAT(
      [&] { muon.set_groups({}); },
      ThrowsMessage<UsageError>("muon: set_groups() gives parameter wte.weight another rule "
                                "after 1 updates; set groups before the first"));
}

TEST(Muon, OrthogonalizesInF32) {
  for (const TensorShape& shape : {TensorShape{40, 100}, TensorShape{100, 40}}) {
    const CounterRandom random(1);
    std::vector<float> x(4000), scratch(12'000), square(1600);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.normal(i));
    const Buffer all = buffer_of(std::span(scratch));
    const Buffer three[] = {all.slice(0, 4000), all.slice(4000, 4000), all.slice(8000, 4000)};
    orthogonalize(buffer_of(std::span(x)), shape[0], shape[1], 5, three);
    MatrixView view = row_major(buffer_of(std::span(x)), shape[0], shape[1]);
    if (view.rows > view.columns) view = view.transposed();
    const MatrixView product = row_major(buffer_of(std::span(square)), 40, 40);
    matrix_product(product, view, view.transposed());
    // Singular values in about [0.7, 1.2]: the trace of x x^T is the sum of their squares.
    double trace = 0;
    for (std::size_t i = 0; i < 40; ++i) trace += square[i * 41];
    EXPECT_NEAR(trace / 40, 1, 0.3);
    EXPECT_LT(std::sqrt(sum_of_squares(product.values)), 1.5 * std::sqrt(40.0));
  }
}

}  // namespace
}  // namespace trireme
