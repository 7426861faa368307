#include "trireme/optim/clip.h"

#include <gtest/gtest.h>
#include <torch/types.h>

// Needs the types above.
#include <torch/nn/utils/clip_grad.h>

#include <cmath>
#include <limits>
#include <vector>

#include "trireme/base/error.h"

namespace trireme {
namespace {

TEST(ClipScale, LeavesASmallGradientAlone) {
  EXPECT_EQ(clip_scale(0.5, 1.0), 1.0);
}

TEST(ClipScale, AgreesWithTorch) {
  torch::Tensor w = torch::zeros({4}, torch::kFloat64).set_requires_grad(true);
  w.mutable_grad() = torch::tensor({3.0, -4.0, 12.0, 0.0}, torch::kFloat64);
  const double norm = torch::nn::utils::clip_grad_norm_(w, 2.0);
  EXPECT_DOUBLE_EQ(norm, 13.0);
  EXPECT_DOUBLE_EQ(w.grad()[2].item<double>(), 12.0 * clip_scale(norm, 2.0));
}

TEST(ClipScale, LetsANaNThrough) {
  EXPECT_TRUE(std::isnan(clip_scale(std::numeric_limits<double>::quiet_NaN(), 1.0)));
}

TEST(ClipScale, RefusesALimitOfZero) {
  EXPECT_THROW(clip_scale(1.0, 0.0), UsageError);
}

}  // namespace
}  // namespace trireme
