#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/parallel/gradient_sink.h"
#include "trireme/parallel/step.h"
#include "trireme/tensor/gradient_hook.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// The order in which a strategy may be used, checked in one place for all strategies, and the way
/// of gradients from autograd's hooks and from callers into the strategy's own sink.
///
/// Every function throws UsageError, which says what to do, if it is not its turn.
class CheckedStep final : public GradientSink {
 public:
  /// `strategy`: its name, for messages.
  explicit CheckedStep(std::string strategy);

  void require_unattached() const;
  void require_attached(const char* call) const;
  /// Attached, and no step has begun that has not ended.
  void require_between_steps(const char* call) const;
  /// No strategy may have the parameters, of which each has one gradient.
  void require_free(const std::vector<NamedTensor>& parameters) const;
  /// Hooks the parameters that require a gradient. They are kept by reference count.
  void attach(std::vector<NamedTensor> parameters);

  /// Those that attach() has hooked, and those that it has not.
  std::vector<NamedTensor> trained_parameters() const { return parameters_where_hooked(true); }
  std::vector<NamedTensor> fixed_parameters() const { return parameters_where_hooked(false); }

  /// From now on accept_changes() throws if the model has been given other memory.
  void refuse_loaded_values() { takes_loaded_values_ = false; }

  /// Returns the number of micro-batches that StepShape::passes stands for.
  int check_begin(const StepShape& shape, std::int64_t virtual_workers) const;
  /// Brings what has been loaded since the last step into the strategy's memory. Returns
  /// StepShape::changed_values.
  double accept_changes();
  /// `sink` gets the gradients of the step.
  void begin(GradientSink& sink, int passes, double loss_scale);
  void backward(const at::Tensor& loss_sum);
  /// Until end_backward() the step counts as failed: only abandon() may follow an exception.
  void begin_reduce();
  void end_backward(const GradientReport& report);
  void check_reduced(const char* call) const;
  /// check_reduced(), and that the parameters have not been changed since. Throws DivergedError if
  /// not all is finite.
  void check_update() const;
  void end();
  void fail() { phase_ = Phase::kFailed; }
  /// Ends a step that was not completed, or does nothing.
  void abandon();
  bool in_backward() const { return phase_ == Phase::kBackward; }

  void add(int parameter, int micro_batch, const at::Tensor& gradient) override;
  void finish(int micro_batch, double loss_sum) override;
  void set_micro_batch(int micro_batch) override;

 private:
  enum class Phase : std::uint8_t { kUnattached, kReady, kBackward, kReduced, kFailed };
  static constexpr int kNone = -1;

  void require_backward(const char* call) const;
  void require_not_failed(const char* call) const;
  void require_scalar(const at::Tensor& loss_sum) const;
  void require_micro_batch(const char* call, int micro_batch) const;
  void on_gradient(int parameter);
  int next_pass() const;
  std::int64_t version_of_parameters() const;
  void hook(std::size_t p);
  std::vector<NamedTensor> parameters_where_hooked(bool hooked) const;

  std::string strategy_;
  Phase phase_ = Phase::kUnattached;
  std::vector<NamedTensor> parameters_;
  std::vector<at::Tensor> homes_;  // the strategy's own memory of each
  bool takes_loaded_values_ = true;
  std::int64_t last_version_ = 0;  // of the parameters when the last step ended
  GradientSink* sink_ = nullptr;   // the strategy's
  int passes_ = 0;
  double loss_scale_ = 1;
  int active_ = kNone;                  // the micro-batch of gradients that autograd brings
  std::vector<char> begun_, finished_;  // of each micro-batch
  std::vector<int> next_;               // of each parameter: the smallest micro-batch that may come
  std::int64_t version_ = 0;            // of the parameters when the gradients were complete
  bool is_finite_ = true;               // what has been reduced
  std::string bad_buffer_;
  // Of each parameter that required a gradient in attach(). Last: they go first.
  std::vector<std::optional<GradientHook>> hooks_;
};

}  // namespace trireme
