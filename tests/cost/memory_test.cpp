#include "trireme/cost/memory.h"

#include <gtest/gtest.h>

namespace trireme::cost {
namespace {

constexpr TransformerLayer kGpt2{
    .samples = 4, .length = 256, .width = 384, .heads = 6, .kv_width = 384, .mlp_width = 4 * 384};

// s b h (64 + 4 a s / h) bytes: 31.5 MB for s 256, b 4, h 384, a 6.
TEST(ActivationsOfGpt2, AreSixteenTimesTheirInputAndTheProbabilities) {
  const LayerActivations kept = gpt2_activations(4, 4);
  EXPECT_EQ(bytes_of(kept, kGpt2), 256 * 4 * 384 * (64 + 4 * 6 * 256 / 384));
  EXPECT_NEAR(static_cast<double>(bytes_of(kept, kGpt2)), 31.5e6, 0.05e6);
  EXPECT_EQ(bytes_of(selective(kept), kGpt2), 64 * 256 * 4 * 384);
  EXPECT_EQ(bytes_of(input_alone(4), kGpt2), 4 * 256 * 4 * 384);
}

// Korthikanti et al.: s b h (34 + 5 a s / h), in which 2 s b h and a s^2 b + 2 a s^2 b are masks
// and what is computed with them.
TEST(ActivationsOfGpt2, InSixteenBitsAreThoseOfThePaperWithoutDropout) {
  const LayerActivations kept = gpt2_activations(2, 2);
  EXPECT_EQ(bytes_of(kept, kGpt2), 256 * 4 * 384 * (34 - 2) + 6 * 256 * 256 * 4 * (5 - 1 - 2));
}

// Two norms, q, k, v and their input, the input of the last product of attention, that of gate and
// up, both, and their product: counted for b 1, s 2, h 4, k 2, m 10.
TEST(ActivationsOfLlama, AreItsInputsCountedOneByOne) {
  const TransformerLayer layer{
      .samples = 1, .length = 2, .width = 4, .heads = 2, .kv_width = 2, .mlp_width = 10};
  const int norms = 4 + 4, qkv_input = 4, qkv = 4 + 2 + 2, output_input = 4, mlp_input = 4;
  const int gate = 10, up = 10, down_input = 10, probabilities = 2 * 2;
  EXPECT_EQ(bytes_of(llama_activations(1, 1), layer),
            2 * (norms + qkv_input + qkv + output_input + mlp_input + gate + up + down_input +
                 probabilities));
  EXPECT_EQ(bytes_of(llama_activations(1, 0), layer), 2 * (norms + gate + up));
}

struct Case {
  int ranks;
  double replicated;   // bytes a parameter
  double host_shared;  // 4 + 12 / ranks
};

class StatesOfAdam : public testing::TestWithParam<Case> {};

TEST_P(StatesOfAdam, AreThoseOfTheTable) {
  const auto [ranks, replicated, host_shared] = GetParam();
  constexpr std::int64_t kParameters = 12'000;
  const std::int64_t state = state_arrays("adam", false, false) * kParameters;
  const auto bytes_of = [](const ModelStates& states) {
    return 4.0 * static_cast<double>(states.parameters + states.gradients + states.optimizer_state);
  };
  EXPECT_EQ(bytes_of(replicated_states(kParameters, state, 1)), replicated * kParameters);
  EXPECT_EQ(bytes_of(host_shared_states(kParameters, state, 1, ranks)), host_shared * kParameters);
}

INSTANTIATE_TEST_SUITE_P(Memory, StatesOfAdam,
                         testing::Values(Case{1, 16, 16}, Case{2, 16, 10}, Case{3, 16, 8},
                                         Case{4, 16, 7}));

TEST(HostSharedStates, RoundTheirPartUp) {
  const ModelStates states = host_shared_states(10, 20, 2, 3);
  EXPECT_EQ(states.parameters, 4);
  EXPECT_EQ(states.gradients, 20);
  EXPECT_EQ(states.optimizer_state, 7);
}

}  // namespace
}  // namespace trireme::cost
