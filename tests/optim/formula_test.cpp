// Against the papers' formulas, written down naively, one number at a time, in f64.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/optim/parameters.h"
#include "trireme/optim/adagrad.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/ftrl.h"
#include "trireme/optim/rmsprop.h"
#include "trireme/optim/sgd.h"

namespace trireme {
namespace {

// The state of one parameter of one element, and its next value from (w, g, t).
using Formula = std::function<double(double w, double g, int t)>;

// `formula()` makes a fresh one with its own state.
void expect_formula(Optimizer& optimizer, Parameters<double>& parameters,
                    const std::function<Formula()>& formula) {
  std::vector<double> w = parameters.values()[0];
  std::vector<Formula> next(w.size());
  for (Formula& f : next) f = formula();
  for (int t = 1; t <= 100; ++t) {
    parameters.draw_gradients(static_cast<std::uint64_t>(t));
    optimizer.step();
    for (std::size_t i = 0; i < w.size(); ++i)
      w[i] = next[i](w[i], parameters.gradients()[0][i], t);
  }
  for (std::size_t i = 0; i < w.size(); ++i) {
    EXPECT_NEAR(parameters.values()[0][i], w[i], 1e-12 * std::max(1.0, std::abs(w[i]))) << i;
  }
}

TEST(Formula, SgdFollowsPolyakAndSutskever) {
  for (const bool nesterov : {false, true}) {
    Parameters<double> parameters({37});
    Sgd sgd(parameters.shards(), {.lr = 0.01, .momentum = 0.9, .nesterov = nesterov});
    expect_formula(sgd, parameters, [nesterov] {
      return [nesterov, velocity = 0.0](double w, double g, int) mutable {
        velocity = 0.9 * velocity + g;
        return w - 0.01 * (nesterov ? g + 0.9 * velocity : velocity);
      };
    });
  }
}

TEST(Formula, AdamFollowsKingmaAndBa) {
  Parameters<double> parameters({37});
  Adam adam(parameters.shards(), {.lr = 0.01});
  expect_formula(adam, parameters, [] {
    return [m = 0.0, v = 0.0](double w, double g, int t) mutable {
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      const double m_hat = m / (1 - std::pow(0.9, t));
      const double v_hat = v / (1 - std::pow(0.999, t));
      return w - 0.01 * m_hat / (std::sqrt(v_hat) + 1e-8);
    };
  });
}

TEST(Formula, AdamWFollowsLoshchilovAndHutter) {
  Parameters<double> parameters({37});
  AdamW adamw(parameters.shards(), {.lr = 0.01, .weight_decay = 0.1});
  expect_formula(adamw, parameters, [] {
    return [m = 0.0, v = 0.0](double w, double g, int t) mutable {
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      const double m_hat = m / (1 - std::pow(0.9, t));
      const double v_hat = v / (1 - std::pow(0.999, t));
      return w - 0.01 * (m_hat / (std::sqrt(v_hat) + 1e-8) + 0.1 * w);
    };
  });
}

TEST(Formula, RmspropFollowsTielemanAndHinton) {
  Parameters<double> parameters({37});
  Rmsprop rmsprop(parameters.shards(), {.lr = 0.01, .alpha = 0.9});
  expect_formula(rmsprop, parameters, [] {
    return [s = 0.0](double w, double g, int) mutable {
      s = 0.9 * s + 0.1 * g * g;
      return g == 0 ? w : w - 0.01 * g / (std::sqrt(s) + 1e-8);
    };
  });
}

TEST(Formula, CenteredRmspropFollowsGraves) {
  Parameters<double> parameters({37});
  Rmsprop rmsprop(parameters.shards(),
                  {.lr = 1e-3, .alpha = 0.9, .eps = 1e-2, .momentum = 0.5, .centered = true});
  expect_formula(rmsprop, parameters, [] {
    return [s = 0.0, a = 0.0, b = 0.0](double w, double g, int) mutable {
      s = 0.9 * s + 0.1 * g * g;
      a = 0.9 * a + 0.1 * g;
      b = 0.5 * b + g / (std::sqrt(s - a * a) + 1e-2);
      return w - 1e-3 * b;
    };
  });
}

TEST(Formula, AdagradFollowsDuchi) {
  Parameters<double> parameters({37});
  Adagrad adagrad(parameters.shards(), {.lr = 0.1, .lr_decay = 0.01, .initial_accumulator = 0.5});
  expect_formula(adagrad, parameters, [] {
    return [s = 0.5](double w, double g, int t) mutable {
      s += g * g;
      return w - 0.1 / (1 + (t - 1) * 0.01) * g / (std::sqrt(s) + 1e-10);
    };
  });
}

TEST(Formula, FtrlFollowsMcMahan) {
  Parameters<double> parameters({37});
  Ftrl ftrl(parameters.shards(), {.lr = 0.1, .beta = 0.5, .l1 = 2, .l2 = 0.3});
  expect_formula(ftrl, parameters, [] {
    return [z = 0.0, n = 0.0](double w, double g, int) mutable {
      const double s = (std::sqrt(n + g * g) - std::sqrt(n)) / 0.1;
      z += g - s * w;
      n += g * g;
      if (std::abs(z) <= 2) return 0.0;
      return -(z - std::copysign(2.0, z)) / ((0.5 + std::sqrt(n)) / 0.1 + 0.3);
    };
  });
  EXPECT_THAT(parameters.values()[0], testing::Contains(0.0));
}

}  // namespace
}  // namespace trireme
