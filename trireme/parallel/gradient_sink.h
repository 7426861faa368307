#pragma once

#include <ATen/core/Tensor.h>

namespace trireme {

/// The one entry point for gradients, whether an autograd hook, a deferred weight gradient or a
/// recomputation brings them. Strategy::begin() returns it for one step.
///
/// Strategy::backward() is enough for a loop of forward and backward passes. A pipeline, or a model
/// that defers weight gradients, names micro-batches itself:
///
///     GradientSink& sink = strategy->begin({.passes = 2});
///     sink.set_micro_batch(0);                  // what autograd brings now belongs to 0
///     ... forward, backward ...
///     sink.set_micro_batch(1);
///     ... forward, backward ...
///     sink.add(parameter, 0, deferred_gradient);
///     sink.finish(0, loss_sum_0);
///     sink.finish(1, loss_sum_1);
///
/// Micro-batches are numbered from 0 on each rank. Used by the one thread that runs backward.
class GradientSink {
 public:
  virtual ~GradientSink() = default;

  /// Adds the gradient of the sum of the micro-batch's losses with respect to `parameter`, an index
  /// into the parameters of the model's tensors(). At most once for each parameter and micro-batch;
  /// the micro-batches of one parameter in ascending order. The tensor is not kept.
  virtual void add(int parameter, int micro_batch, const at::Tensor& gradient) = 0;

  /// All gradients of this micro-batch have come: parameters without one count as zero. In any
  /// order of micro-batches.
  virtual void finish(int micro_batch, double loss_sum) = 0;

  /// From now on, gradients that autograd brings and changes of the model's buffers belong to
  /// `micro_batch`. Must be called before each forward and each backward pass if passes of
  /// different micro-batches alternate.
  virtual void set_micro_batch(int micro_batch) { static_cast<void>(micro_batch); }
};

}  // namespace trireme
