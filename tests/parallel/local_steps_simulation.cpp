#include "tests/parallel/local_steps_simulation.h"

#include <ATen/ATen.h>
#include <torch/nn/functional/loss.h>

namespace trireme::test {

at::Tensor loss_of(SmallNet& net, std::int64_t step, std::int64_t worker) {
  const auto seed = static_cast<std::uint64_t>(1000 + step * 100 + worker);
  return torch::mse_loss(net.forward(random_tensor({4, 5}, seed, at::kDouble)),
                         random_tensor({4, 1}, seed + 50000, at::kDouble));
}

Values flat(const std::vector<at::Tensor>& tensors) {
  Values values;
  for (const at::Tensor& tensor : tensors) {
    const at::Tensor row = tensor.detach().to(at::kDouble).contiguous().view(-1);
    values.insert(values.end(), row.data_ptr<double>(), row.data_ptr<double>() + row.numel());
  }
  return values;
}

void set(const std::vector<at::Tensor>& tensors, const Values& values) {
  const at::NoGradGuard no_grad;
  const double* at = values.data();
  for (const at::Tensor& tensor : tensors) {
    tensor.copy_(at::from_blob(const_cast<double*>(at), tensor.sizes(), at::kDouble));
    at += tensor.numel();
  }
}

Simulation::Simulation(int ranks, const LocalStepsOptions& options) : options_(options) {
  // The ranks have equal numbers of virtual workers, and the first ranks one of the rest each. With
  // shares the first rank has all but one for each other rank.
  std::int64_t next = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    if (rank % options.group_size == 0) groups_.push_back({.first = next});
    if (options.world.shares.empty()) {
      next += kVirtualWorkers / ranks + (rank < kVirtualWorkers % ranks ? 1 : 0);
    } else {
      next += rank > 0 ? 1 : kVirtualWorkers - (ranks - 1);
    }
    groups_.back().end = next;
  }
  for (Group& group : groups_) {
    group.parameters = flat(net_.parameters());
    group.buffers = flat(net_.buffers());
    group.momentum.assign(group.parameters.size(), 0);
  }
  agreed_ = groups_[0].parameters;
  outer_momentum_.assign(agreed_.size(), 0);
  const std::size_t size = agreed_.size();
  const auto pieces = static_cast<std::size_t>(options.fragments);
  std::size_t at = 0;
  for (std::size_t f = 0; f < pieces; ++f) {
    const std::size_t end = at + size / pieces + (f < size % pieces ? 1 : 0);
    fragments_.push_back({at, end, options.steps * static_cast<int>(f) / options.fragments});
    at = end;
  }
}

void Simulation::run(int steps) {
  for (int step = 1; step <= steps; ++step) {
    for (Group& group : groups_) take_step(group, step - 1);
    for (Fragment& fragment : fragments_) {
      if (is_due(fragment, step - options_.delay) && !fragment.change.empty()) arrive(fragment);
      if (is_due(fragment, step)) {
        send(fragment);
        if (options_.delay == 0) arrive(fragment);
      }
    }
    const bool turn = options_.fragments == 1 && step % options_.steps == options_.delay &&
                      step > options_.delay && (options_.delay == 0 || options_.mix == 0);
    if (step == steps && !turn) come_together();
  }
}

const Simulation::Group& Simulation::group_of(int rank) const {
  return groups_[static_cast<std::size_t>(rank / options_.group_size)];
}

bool Simulation::is_due(const Fragment& fragment, int step) const {
  return step > fragment.offset && (step - fragment.offset) % options_.steps == 0;
}

void Simulation::take_step(Group& group, std::int64_t step) {
  Values gradient(group.parameters.size(), 0), buffers = group.buffers;
  const auto workers = static_cast<double>(group.end - group.first);
  for (std::int64_t worker = group.first; worker < group.end; ++worker) {
    set(net_.parameters(), group.parameters);
    set(net_.buffers(), group.buffers);
    net_.zero_grad();
    loss_of(net_, step, worker).backward();
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& p : net_.parameters()) gradients.push_back(p.grad());
    const Values own = flat(gradients), now = flat(net_.buffers());
    for (std::size_t i = 0; i < own.size(); ++i) gradient[i] += own[i] / workers;
    for (std::size_t i = 0; i < now.size(); ++i) {
      buffers[i] += (now[i] - group.buffers[i]) / workers;
    }
  }
  group.buffers = buffers;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    group.momentum[i] = kMomentum * group.momentum[i] + gradient[i];
    group.parameters[i] -= kLr * group.momentum[i];
  }
}

Values Simulation::mean_of_buffers() const {
  Values mean(groups_[0].buffers.size(), 0);
  for (const Group& group : groups_) {
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += group.share() * group.buffers[i];
  }
  return mean;
}

void Simulation::send(Fragment& fragment) {
  fragment.change.assign(fragment.end - fragment.first, 0);
  for (const Group& group : groups_) {
    for (std::size_t i = fragment.first; i < fragment.end; ++i) {
      fragment.change[i - fragment.first] += group.share() * (agreed_[i] - group.parameters[i]);
    }
  }
  fragment.buffers = mean_of_buffers();
}

void Simulation::arrive(Fragment& fragment) {
  const double kept = options_.delay > 0 ? options_.mix : 0;
  for (std::size_t i = fragment.first; i < fragment.end; ++i) {
    const double change = fragment.change[i - fragment.first];
    outer_momentum_[i] = options_.outer_momentum * outer_momentum_[i] + change;
    agreed_[i] -= options_.outer_lr * (change + options_.outer_momentum * outer_momentum_[i]);
    for (Group& group : groups_) {
      group.parameters[i] = kept * group.parameters[i] + (1 - kept) * agreed_[i];
    }
  }
  for (Group& group : groups_) {
    for (std::size_t i = 0; fragment.first == 0 && i < group.buffers.size(); ++i) {
      group.buffers[i] = kept * group.buffers[i] + (1 - kept) * fragment.buffers[i];
    }
  }
  fragment.change.clear();
}

// In the streaming form what is under way stays so.
void Simulation::come_together() {
  const bool streams = options_.fragments > 1 || (options_.delay > 0 && options_.mix > 0);
  for (Fragment& fragment : fragments_) {
    if (!streams && !fragment.change.empty()) arrive(fragment);
  }
  Values mean(agreed_.size(), 0);
  for (const Group& group : groups_) {
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += group.share() * group.parameters[i];
  }
  const Values buffers = mean_of_buffers();
  for (Group& group : groups_) {
    group.parameters = mean;
    group.buffers = buffers;
  }
  agreed_ = mean;
}

}  // namespace trireme::test
