#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "trireme/comm/communicator.h"
#include "trireme/optim/optimizer.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// The first value of a rank that is not that of the reference: of the first step that differs, in
/// the order loss, gradients, norm, parameters, optimizer state, buffers.
struct Difference {
  std::int64_t step = 0;         ///< counted from 1
  std::string kind;              ///< a key of Verification::compared
  std::string tensor;            ///< "" for the loss and the norm
  int rank = -1;                 ///< the lowest one that differs; -1: no rank holds the element
  std::int64_t index = 0;        ///< in the whole tensor, flattened (row-major)
  std::string value;             ///< on that rank, with as many digits as its type needs; or "none"
  std::string expected;          ///< on the reference; or "none"
  std::int64_t elements = 0;     ///< of this tensor that differ on that rank
  std::int64_t of_elements = 0;  ///< .. of so many that it holds
};

struct Verification {
  std::int64_t steps = 0;  ///< that were compared
  /// Tensors of a step, of each kind: "loss", "gradient", "norm" (if it was computed in any
  /// step), "parameter", "optimizer state", "buffer".
  std::map<std::string, std::int64_t> compared;
  std::optional<Difference> difference;
};

struct VerifyOptions {
  std::int64_t steps = 3;
  /// 0: every bit must be the same. Else elements of floating-point tensors may differ by this
  /// times the largest absolute value of their whole tensor.
  double bound = 0;
};

/// A step that has just ended by Strategy::update() or skip_update(); the next one has not begun.
struct ComparedStep {
  Strategy& strategy;
  Optimizer* optimizer = nullptr;  ///< null: one of libtorch, whose state is not compared
  double loss = 0;                 ///< StepResult::loss
  std::optional<double> norm = std::nullopt;  ///< gradient_norm() if it was called
};

/// What a training loop calls under verify(), on each rank:
///
///     for (std::int64_t step = 0; comparison.goes_on(); ++step) {
///       ...
///       const StepResult result = strategy->update(optimizer);
///       comparison.compare({.strategy = *strategy, .optimizer = &optimizer, .loss = result.loss});
///     }
class StepComparison {
 public:
  /// Collective over `world`, whose last rank is the reference.
  StepComparison(Communicator& world, VerifyOptions options);

  bool is_reference() const;
  /// False once all steps have been compared, or one differs; the same on all ranks.
  bool goes_on() const;
  /// Collective. Sends each tensor of the reference to the ranks, one after another; each compares
  /// the regions that it holds. Memory beside the training: the largest tensor.
  void compare(const ComparedStep& step);

  const Verification& result() const { return result_; }

 private:
  Communicator& world_;
  VerifyOptions options_;
  Verification result_;
};

/// Trains on all ranks of `world` but the last, and beside them on the last one alone, which is the
/// reference, and compares after each step. `training` is called on each rank with its
/// communicator: of world.size() - 1 ranks, or of one. It must make the same model, batches and
/// number of virtual workers on all of them; only the strategy may be another one where
/// is_reference().
///
///     verify(world, [&](Communicator& ranks, StepComparison& comparison) {
///       Net net;
///       auto strategy = comparison.is_reference() ? replicated(ranks, {.virtual_workers = 4})
///                                                 : host_shared(ranks, {.virtual_workers = 4});
///       ...
///     });
///
/// Collective; the result is the same on all ranks. What servers hold, gradients and the state of
/// the optimizer, is not compared. Throws UsageError for a world of one, and what `training`
/// throws; the other ranks' calls then end in CommError.
Verification verify(Communicator& world,
                    const std::function<void(Communicator&, StepComparison&)>& training,
                    VerifyOptions options = {});

}  // namespace trireme
