#include "trireme/tensor/prepare_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using Groups = std::vector<ParameterGroup>;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(PrepareGroups, FreezesWhatTheFirstMatchingGroupSays) {
  torch::nn::Linear module(3, 4);
  prepare_groups(tensors_of(*module), Groups{{.match = "bias"}, {.trainable = false}});
  EXPECT_TRUE(module->bias.requires_grad());
  EXPECT_FALSE(module->weight.requires_grad());
}

TEST(PrepareGroups, FreezesNothingIfAGroupMatchesNothing) {
  torch::nn::Linear module(3, 4);
  EXPECT_THAT(
      [&] {
        prepare_groups(tensors_of(*module),
                       Groups{{.match = "bias", .trainable = false}, {.match = "weigth"}});
      },
      ThrowsMessage<UsageError>(HasSubstr("did you mean \"weight\"?")));
  EXPECT_TRUE(module->bias.requires_grad());
}

TEST(PrepareGroups, RefusesToFreezeEverything) {
  torch::nn::Linear module(3, 4);
  EXPECT_THAT([&] { prepare_groups(tensors_of(*module), Groups{{.trainable = false}}); },
              ThrowsMessage<UsageError>(HasSubstr("every parameter is in a group with trainable")));
}

}  // namespace
}  // namespace trireme
