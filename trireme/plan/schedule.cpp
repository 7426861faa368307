#include "trireme/plan/schedule.h"

#include <fmt/format.h>

#include <cstddef>
#include <string_view>

#include "trireme/base/error.h"

namespace trireme::plan {

namespace {

// Follows one stage through its actions.
class StageCheck {
 public:
  StageCheck(std::size_t stage, int micro_batches)
      : stage_(stage), has_forward_(static_cast<std::size_t>(micro_batches)) {}

  void add(const Action& action) {
    const auto count = static_cast<int>(has_forward_.size());
    if (action.micro_batch < 0 || action.micro_batch >= count) {
      refuse(action.micro_batch, fmt::format("must lie in [0, {})", count));
    }
    if (action.kind == Action::Kind::kForward) {
      add_forward(action.micro_batch);
    } else {
      add_backward(action.micro_batch);
    }
  }

  void finish() const {
    if (next_backward_ < static_cast<int>(has_forward_.size())) {
      refuse(next_backward_, "must have a backward pass, has none");
    }
  }

 private:
  void add_forward(int micro_batch) {
    auto&& has_forward = has_forward_[static_cast<std::size_t>(micro_batch)];
    if (has_forward) refuse(micro_batch, "must have one forward pass, has two");
    has_forward = true;
  }

  void add_backward(int micro_batch) {
    if (micro_batch != next_backward_) {
      refuse(micro_batch, fmt::format("must have its backward pass in ascending order: that of "
                                      "micro-batch {} is next",
                                      next_backward_));
    }
    if (!has_forward_[static_cast<std::size_t>(micro_batch)]) {
      refuse(micro_batch, "must have its forward pass before its backward pass");
    }
    ++next_backward_;
  }

  [[noreturn]] void refuse(int micro_batch, std::string_view what) const {
    throw UsageError(
        fmt::format("schedule: stage {}: micro-batch {} {}", stage_, micro_batch, what));
  }

  std::size_t stage_;
  std::vector<bool> has_forward_;
  int next_backward_ = 0;
};

}  // namespace

Schedule single_stage(int micro_batches) {
  std::vector<Action> actions;
  for (int micro_batch = 0; micro_batch < micro_batches; ++micro_batch) {
    actions.push_back({Action::Kind::kForward, micro_batch});
    actions.push_back({Action::Kind::kBackward, micro_batch});
  }
  return {{std::move(actions)}};
}

void check(const Schedule& schedule, int micro_batches) {
  for (std::size_t stage = 0; stage < schedule.stages.size(); ++stage) {
    StageCheck check(stage, micro_batches);
    for (const Action& action : schedule.stages[stage]) check.add(action);
    check.finish();
  }
}

}  // namespace trireme::plan
