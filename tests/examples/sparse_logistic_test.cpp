// Logistic regression over keys that may be millions, beside a scalar reference on one process.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>

#include "examples/sparse_logistic/generator.h"
#include "tests/examples/example_folder.h"

namespace trireme::test {
namespace {

using examples::Examples;
using examples::Generator;
using examples::GeneratorOptions;
using testing::Ge;
using testing::Gt;
using testing::Le;
using testing::Lt;

constexpr std::size_t kExamples = 8000;
constexpr std::uint64_t kKeys = 100'000;
constexpr std::size_t kBatch = 50;
constexpr double kLr = 0.02, kL1 = 1, kBeta = 1;

struct Report {
  double loss = 0, base_rate = 0, model = 0;
  unsigned long long rows = 0, possible = 0, not_zero = 0;
};

// McMahan et al. 2013, algorithm 1, on a batch's summed gradients, in f64.
class Reference {
 public:
  double learn(const Examples& examples, std::size_t first, std::size_t last) {
    const std::size_t n = examples.keys.size() / examples.labels.size();
    std::map<std::uint64_t, double> gradient;
    double loss = 0;
    for (std::size_t i = first; i < last; ++i) {
      double score = weight(0);
      for (std::size_t k = 0; k < n; ++k) score += weight(examples.keys[i * n + k]);
      const double p = 1 / (1 + std::exp(-score));
      loss -= std::log(examples.labels[i] != 0 ? p : 1 - p);
      const double error = p - examples.labels[i];
      gradient[0] += error;
      for (std::size_t k = 0; k < n; ++k) gradient[examples.keys[i * n + k]] += error;
    }
    for (const auto& [key, g] : gradient) {
      const double s = (std::sqrt(n_[key] + g * g) - std::sqrt(n_[key])) / kLr;
      z_[key] += g - s * w_[key];
      n_[key] += g * g;
      const double z = z_[key];
      const double shrunk = std::abs(z) - kL1;
      w_[key] = shrunk <= 0 ? 0 : -std::copysign(shrunk, z) / ((kBeta + std::sqrt(n_[key])) / kLr);
    }
    return loss;
  }

  std::size_t rows() const { return w_.size(); }
  std::size_t not_zero() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(w_, [](const auto& one) { return one.second != 0; }));
  }

 private:
  double weight(std::uint64_t key) const {
    const auto found = w_.find(key);
    return found == w_.end() ? 0 : found->second;
  }

  std::map<std::uint64_t, double> w_, z_, n_;
};

class SparseLogistic : public testing::Test {
 protected:
  Report on_ranks(int ranks, std::vector<std::string> flags) const {
    std::vector<std::string> command = {"run", "-n", std::to_string(ranks),
                                        example_program("sparse_logistic")};
    for (const auto& [name, value] : std::map<std::string, double>{{"--examples", kExamples},
                                                                   {"--keys", kKeys},
                                                                   {"--batch", kBatch},
                                                                   {"--lr", kLr},
                                                                   {"--l1", kL1},
                                                                   {"--beta", kBeta}}) {
      command.insert(command.end(), {name, fmt::format("{}", value)});
    }
    command.insert(command.end(), flags.begin(), flags.end());
    const std::string out = folder_.trireme(command).out;
    Report report;
    const char* const loss = std::strstr(out.c_str(), "log loss");
    const char* const rows = std::strstr(out.c_str(), "examples/s\n");
    if (loss == nullptr || rows == nullptr ||
        std::sscanf(loss, "log loss %lf; base rate %lf, generating model %lf", &report.loss,
                    &report.base_rate, &report.model) != 3 ||
        std::sscanf(rows, "examples/s\n%llu rows made of %llu possible, %llu weights", &report.rows,
                    &report.possible, &report.not_zero) != 3) {
      ADD_FAILURE() << out;
    }
    return report;
  }

  ExampleFolder folder_;
};

TEST_F(SparseLogistic, OneRankHasTheLossOfAScalarReference) {
  const Examples data = Generator({.keys = kKeys}).make(0, 1, kExamples);
  Reference reference;
  double loss = 0, model = 0, ones = 0;
  for (std::size_t first = 0; first < kExamples; first += kBatch) {
    loss += reference.learn(data, first, first + kBatch);
  }
  for (std::size_t i = 0; i < kExamples; ++i) {
    ones += data.labels[i];
    model -= std::log(data.labels[i] != 0 ? data.probabilities[i] : 1 - data.probabilities[i]);
  }
  const double rate = ones / kExamples;
  const Report report = on_ranks(1, {"--shards", "3"});
  EXPECT_NEAR(report.loss, loss / kExamples, 2e-4);
  EXPECT_NEAR(report.model, model / kExamples, 1e-4);
  EXPECT_NEAR(report.base_rate, -rate * std::log(rate) - (1 - rate) * std::log(1 - rate), 1e-4);
  EXPECT_EQ(report.rows, reference.rows());
  EXPECT_EQ(report.possible, kKeys);
  EXPECT_NEAR(static_cast<double>(report.not_zero), static_cast<double>(reference.not_zero()), 10);
}

// Example i is the same on any rank; what was learned by then differs a little.
TEST_F(SparseLogistic, MoreRanksLearnFromTheSameExamples) {
  const Report alone = on_ranks(1, {});
  EXPECT_THAT(alone.loss, Lt(alone.base_rate - 0.02));
  EXPECT_THAT(alone.loss, Gt(alone.model));
  const Report bounded = on_ranks(3, {"--staleness", "1", "--shards", "2"});
  EXPECT_EQ(bounded.rows, alone.rows);
  EXPECT_NEAR(bounded.base_rate, alone.base_rate, 1e-4);
  EXPECT_NEAR(bounded.model, alone.model, 1e-4);
  EXPECT_NEAR(bounded.loss, alone.loss, 0.02);
  const Report asynchronous = on_ranks(3, {});
  EXPECT_EQ(asynchronous.rows, alone.rows);
  EXPECT_THAT(asynchronous.loss, Lt(asynchronous.base_rate));
}

// Chi-square against the probabilities themselves.
TEST(Zipf, DrawsKeysAsOftenAsItsLawSays) {
  constexpr std::uint64_t kBars = 50;
  constexpr int kDraws = 200'000;
  for (const double exponent : {0.5, 1.1, 2.0}) {
    const examples::Zipf zipf(kBars, exponent);
    const CounterRandom random(7);
    std::uint64_t index = 0;
    std::vector<double> drawn(kBars + 1);
    for (int i = 0; i < kDraws; ++i) {
      const std::uint64_t key = zipf.draw(random, index);
      ASSERT_THAT(key, testing::AllOf(Ge(1u), Le(kBars)));
      ++drawn[key];
    }
    double all = 0;
    for (std::uint64_t k = 1; k <= kBars; ++k) all += std::pow(static_cast<double>(k), -exponent);
    double chi_square = 0;
    for (std::uint64_t k = 1; k <= kBars; ++k) {
      const double wanted = kDraws * std::pow(static_cast<double>(k), -exponent) / all;
      chi_square += std::pow(drawn[k] - wanted, 2) / wanted;
    }
    EXPECT_THAT(chi_square, Lt(85.4)) << "one in a thousand, 49 degrees of freedom";
  }
}

TEST(SparseLogisticGenerator, MostWeightsAreZeroAndLabelsFollowTheirProbabilities) {
  const Generator generator({.keys = kKeys});
  int not_zero = 0;
  for (std::uint64_t key = 1; key <= 10'000; ++key) not_zero += generator.weight(key) != 0 ? 1 : 0;
  EXPECT_NEAR(not_zero, 2000, 160);  // four deviations
  const Examples data = generator.make(0, 1, 5000);
  double expected = 0, variance = 0, labels = 0;
  for (std::size_t i = 0; i < data.labels.size(); ++i) {
    expected += data.probabilities[i];
    variance += data.probabilities[i] * (1 - data.probabilities[i]);
    labels += data.labels[i];
  }
  EXPECT_NEAR(labels, expected, 4 * std::sqrt(variance));
  const Examples some = generator.make(3, 2, 2);
  EXPECT_EQ(some.labels[1], data.labels[5]);
  EXPECT_TRUE(std::equal(some.keys.begin() + 100, some.keys.end(), data.keys.begin() + 500));
}

}  // namespace
}  // namespace trireme::test
