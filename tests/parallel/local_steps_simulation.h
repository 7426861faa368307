#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "tests/parallel/small_net.h"
#include "trireme/parallel/local_steps.h"

namespace trireme::test {

constexpr int kVirtualWorkers = 6;  // on 4 ranks some have two and some one
constexpr double kLr = 0.05;
constexpr double kMomentum = 0.8;

using Values = std::vector<double>;

/// The values of all tensors, one after another.
Values flat(const std::vector<at::Tensor>& tensors);
void set(const std::vector<at::Tensor>& tensors, const Values& values);

/// The loss of one virtual worker in one step.
at::Tensor loss_of(SmallNet& net, std::int64_t step, std::int64_t worker);

/// Local steps in one process, with the groups one after another, numbers in vectors and each
/// formula written out.
class Simulation {
 public:
  Simulation(int ranks, const LocalStepsOptions& options);

  void run(int steps);

  Values parameters(int rank) const { return group_of(rank).parameters; }
  Values buffers(int rank) const { return group_of(rank).buffers; }

 private:
  struct Group {
    std::int64_t first = 0, end = 0;  // virtual workers
    Values parameters, buffers, momentum;
    double share() const { return static_cast<double>(end - first) / kVirtualWorkers; }
  };
  struct Fragment {
    std::size_t first, end;
    int offset;
    Values change = {};  // of the parameters, or their mean values
    Values buffers = {};
  };

  const Group& group_of(int rank) const;
  bool is_due(const Fragment& fragment, int step) const;
  void take_step(Group& group, std::int64_t step);
  Values mean_of_buffers() const;
  void send(Fragment& fragment);
  void arrive(Fragment& fragment);
  void come_together();

  LocalStepsOptions options_;
  SmallNet net_{at::kDouble};
  std::vector<Group> groups_;
  std::vector<Fragment> fragments_;
  Values agreed_, outer_momentum_;
};

}  // namespace trireme::test
