#pragma once

#include <span>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/comm/communicator.h"
#include "trireme/model/model.h"
#include "trireme/optim/shard.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// The loss or the gradient is no longer finite. The message names the step and the first parameter
/// with a bad gradient.
class DivergedError : public Error {
 public:
  using Error::Error;
};

/// Throws DivergedError: "training diverged: WHAT", the name of the first parameter of the model
/// with a gradient that is not finite, and what to try. Must be called after reduce_gradients() and
/// before the update. Collective over `world` if ranks hold parts of the shards.
[[noreturn]] void throw_diverged(std::string_view what, const Model& model,
                                 std::span<const Shard> shards, Strategy& strategy,
                                 Communicator& world);

}  // namespace trireme
