// The formulas are held against torch::optim and the papers in tests/optim; here, the bits.
#include "trireme/kernels/optimizers.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "tests/kernels/targets.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme {
namespace {

constexpr std::int64_t kCount = 1003;

template <class T>
struct Arrays {
  std::vector<T> values, gradient;
  std::vector<std::vector<T>> state;

  Arrays() : state(3, std::vector<T>(kCount)) {
    const CounterRandom random(1);
    for (std::uint64_t i = 0; i < kCount; ++i) {
      values.push_back(static_cast<T>(random.normal(i)));
      gradient.push_back(static_cast<T>(random.normal(i + 10'000)));
      for (std::size_t s = 0; s < 3; ++s) {
        // Squares as large as 2 keep the centered variance positive.
        state[s][i] = static_cast<T>(s == 0 ? 1 + random.uniform(i) : random.uniform(i + 99) - 0.5);
      }
    }
  }
  bool operator==(const Arrays&) const = default;
};

// Elements [first, first + count) by one optimizer.
template <class T>
using Step = std::function<void(Arrays<T>& arrays, std::int64_t first, std::int64_t count)>;

template <class T>
Update update_of(Arrays<T>& a, std::int64_t first, std::int64_t count) {
  return {buffer_of(std::span(a.values)).slice(first, count), a.gradient.data() + first, 0.7, 1.5};
}

template <class T>
std::vector<Step<T>> all_optimizers() {
  return {
      [](Arrays<T>& a, std::int64_t i, std::int64_t n) {
        update_sgd(update_of(a, i, n), {.momentum = 0.9, .weight_decay = 0.1, .nesterov = true},
                   a.state[1].data() + i);
      },
      [](Arrays<T>& a, std::int64_t i, std::int64_t n) {
        update_adam(update_of(a, i, n), {.weight_decay = 0.1, .step = 3}, a.state[1].data() + i,
                    a.state[0].data() + i);
      },
      [](Arrays<T>& a, std::int64_t i, std::int64_t n) {
        const AdamRule rule{.weight_decay = 0.1, .step = 3};
        lamb_direction(update_of(a, i, n), rule, a.state[1].data() + i, a.state[0].data() + i,
                       a.state[2].data() + i);
        update_lamb(update_of(a, i, n).values, rule, 0.3, a.state[1].data() + i,
                    a.state[0].data() + i);
      },
      [](Arrays<T>& a, std::int64_t i, std::int64_t n) {
        update_rmsprop(update_of(a, i, n), {.weight_decay = 0.1, .momentum = 0.9},
                       a.state[0].data() + i, a.state[1].data() + i, a.state[2].data() + i);
      },
      [](Arrays<T>& a, std::int64_t i, std::int64_t n) {
        update_adagrad(update_of(a, i, n), {.weight_decay = 0.1}, a.state[0].data() + i);
      },
      [](Arrays<T>& a, std::int64_t i, std::int64_t n) {
        update_ftrl(update_of(a, i, n), {.lr = 0.1, .l1 = 0.3, .l2 = 0.2}, a.state[1].data() + i,
                    a.state[0].data() + i);
      },
  };
}

template <class T>
void expect_same_bits_everywhere() {
  for (const Step<T>& step : all_optimizers<T>()) {
    Arrays<T> wanted;
    for (std::int64_t i = 0; i < kCount; ++i) step(wanted, i, 1);
    ASSERT_NE(wanted.values, Arrays<T>().values);
    on_every_instruction_set([&] {
      Arrays<T> whole;
      step(whole, 0, kCount);
      EXPECT_EQ(whole, wanted);
    });
  }
}

TEST(OptimizerUpdates, HaveTheSameBitsOnEveryInstructionSetAndHoweverTheyAreCut) {
  expect_same_bits_everywhere<float>();
  expect_same_bits_everywhere<double>();
}

TEST(OptimizerUpdates, RefuseHalfTypes) {
  std::uint16_t value = 0;
  const Update update{{&value, 1, DType::kBF16}, &value};
  EXPECT_THROW(update_sgd(update, {}, nullptr), UsageError);
  EXPECT_THROW(update_adam(update, {}, nullptr, nullptr), UsageError);
  EXPECT_THROW(lamb_direction(update, {}, nullptr, nullptr, nullptr), UsageError);
  EXPECT_THROW(update_lamb(update.values, {}, 1, nullptr, nullptr), UsageError);
  EXPECT_THROW(update_rmsprop(update, {}, nullptr, nullptr, nullptr), UsageError);
  EXPECT_THROW(update_adagrad(update, {}, nullptr), UsageError);
  EXPECT_THROW(update_ftrl(update, {}, nullptr, nullptr), UsageError);
}

}  // namespace
}  // namespace trireme
