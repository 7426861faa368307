#pragma once

#include <cstdint>
#include <string>

#include "trireme/comm/communicator.h"
#include "trireme/data/loader.h"
#include "trireme/data/sampler.h"
#include "trireme/optim/optimizer.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// A step after reduce_gradients() and before its end, in which not all is finite.
struct NonFiniteStep {
  std::int64_t step = 0;  ///< counted from 1
  const GradientReport& report;
  const StepBatches& batches;
};

/// Says what is not finite: the loss, or the gradient and the first parameter of the model with a
/// bad one, or a buffer; and the samples of the first virtual worker to have had it, as far as it
/// can be told. Collective over `world`, unless ranks train without each other.
std::string describe(const NonFiniteStep& step, const Sampler& sampler, Strategy& strategy,
                     Communicator& world);

/// Throws DivergedError if a value of the parameters, of the optimizer's state or of the strategy's
/// is not finite; the message names it. `step`: how many are done. `optimizer`: null if it is one
/// of libtorch, whose state is not looked at. Collective over `ranks`: all throw if one does.
void require_finite_state(std::int64_t step, Optimizer* optimizer, Strategy& strategy,
                          Communicator& ranks);

}  // namespace trireme
