#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/gradients/accumulator.h"
#include "trireme/parallel/gradients/bucket_layout.h"
#include "trireme/parallel/gradients/reducer.h"
#include "trireme/parallel/gradients/scatter.h"
#include "trireme/parallel/gradients/step_buffers.h"
#include "trireme/parallel/gradients/step_metadata.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"

namespace trireme {

/// The gradients of one step, summed over this rank's virtual workers in tree order, in memory that
/// the other ranks of the host can read. With kReduce each bucket is all-reduced, overlapped with
/// backward; with kCollect the partial sums stay where they are for others to read. With
/// GradientParts each rank receives its part of the sums.
///
/// Functions that take `p` number the parameters that require a gradient; add() numbers all.
///
/// Whether all gradients are finite costs no communication of its own: each rank finds a bound of
/// its sums as gradients come, and the metadata of the step sum these bounds. Sums of gradients
/// that are below half of the largest number of their type cannot overflow.
class StepGradients final : public GradientSink {
 public:
  enum class Mode : std::uint8_t { kReduce, kCollect };

  /// Collective over `ranks`. `model` is kept by reference count; its parameters must be
  /// contiguous.
  StepGradients(Communicator& ranks, const NamedTensors& model, const StrategyOptions& options,
                Mode mode);
  StepGradients(Communicator& ranks, const NamedTensors& model, const StrategyOptions& options,
                const GradientParts& parts);

  /// `divisor`: what sums are divided by, on every rank.
  void begin(const StepShape& shape, double divisor);
  void add(int parameter, int micro_batch, const at::Tensor& gradient) override;
  void finish(int micro_batch, double loss_sum) override;
  void set_micro_batch(int micro_batch) override;

  /// Collective: returns once the gradients of every rank are complete, and reduced with kReduce.
  void reduce();
  /// Must follow reduce(), at the end of the step: gives the model's buffers their new values. With
  /// `is_skipped` these and what the reduction remembers are as before the step.
  void end_step(bool is_skipped);

  const ReductionTree& tree() const { return tree_; }
  double divisor() const { return divisor_; }
  std::size_t parameters() const { return parameters_.size(); }
  const std::string& name(std::size_t p) const { return parameters_[p].first; }
  const at::Tensor& parameter(std::size_t p) const { return parameters_[p].second; }

  /// Row `row` of the gradient of parameter `p` on rank `rank`; null if this rank does not share
  /// memory with it.
  Buffer row(int rank, std::size_t p, int row) const;

  /// Any gradient of this step has come on this rank.
  bool has_own_gradients() const;
  const BucketLayout& layout() const { return *layout_; }
  /// With GradientParts.
  const GradientScatter& scatter() const { return *scatter_; }

  /// After reduce(), over all ranks:
  bool has_gradient(std::size_t p) const { return metadata_->used()[p] != 0; }
  double loss() const { return metadata_->loss_sum() / divisor_; }
  bool stop() const { return metadata_->stop(); }
  /// What the step has found. `is_finite` may be true though a sum overflows if may_overflow().
  GradientReport report() const;
  /// With kCollect and GradientParts: every gradient is finite, but the sums over ranks may not be.
  bool may_overflow() const;

  /// What the reduction remembers from step to step: residuals of the compression.
  std::vector<Strategy::State> state();

 private:
  static constexpr int kNone = -1;

  void lay_out(const NamedTensors& model, const StrategyOptions& options,
               const GradientParts* parts);
  void start_complete();
  void note_bad(int micro_batch);
  bool sums_may_overflow() const;
  bool all_sums_are_finite() const;

  Communicator& ranks_;
  ReductionTree tree_;
  std::vector<NamedTensor> parameters_;
  std::vector<std::size_t> index_of_;  // in parameters_, of each parameter of the model
  std::optional<BucketLayout> layout_;
  std::optional<BucketMemory> memory_;
  std::optional<GradientAccumulator> accumulator_;
  std::optional<GradientReducer> reducer_;  // with kReduce
  std::optional<GradientScatter> scatter_;  // with GradientParts
  std::optional<StepBuffers> buffers_;
  std::optional<StepMetadata> metadata_;
  double divisor_ = 1;

  double unverified_changes_ = 0;  // of the buffers, which ranks may have made differently

  // The step under way.
  bool is_open_ = false;     // reduced, and not ended
  std::size_t current_ = 0;  // micro-batch that changes of the buffers belong to
  double largest_ = 0;       // of all gradients, in units of the largest number of their type
  int bad_micro_batch_ = kNone;
  std::string bad_buffer_;
  bool sums_are_finite_ = true;
};

}  // namespace trireme
