#include "tests/train/plain_loop.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace trireme::test {

namespace {

using Tensors = std::vector<at::Tensor>;

// ((0 + 1) + (2 + 3)) of four.
Tensors sum_in_pairs(std::vector<Tensors> terms) {
  while (terms.size() > 1) {
    std::vector<Tensors> sums;
    for (std::size_t i = 0; i < terms.size(); i += 2) {
      sums.push_back(terms[i]);
      if (i + 1 == terms.size()) break;
      for (std::size_t p = 0; p < sums.back().size(); ++p) {
        sums.back()[p] = sums.back()[p] + terms[i + 1][p];
      }
    }
    terms = std::move(sums);
  }
  return terms.front();
}

// As torch.nn.utils.clip_grad_norm_ does.
void clip(Tensors& gradients, double limit) {
  double squares = 0;
  for (const at::Tensor& gradient : gradients) {
    squares += gradient.to(at::kDouble).square().sum().item<double>();
  }
  if (squares <= limit * limit) return;
  for (at::Tensor& gradient : gradients)
    gradient = gradient * (limit / (std::sqrt(squares) + 1e-6));
}

}  // namespace

std::vector<double> PlainLoop::train(std::vector<at::Tensor>& parameters) const {
  for (at::Tensor& parameter : parameters) parameter.set_requires_grad(true);
  std::vector<double> losses;
  Tensors velocity;
  std::int64_t row = 0;
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::int64_t end = std::min(row + batch, x.size(0));
    const auto rows = static_cast<double>(end - row);
    std::vector<Tensors> terms;
    double loss_sum = 0;
    for (std::int64_t worker = 0; worker < virtual_workers && row + worker < end; ++worker) {
      const at::Tensor mine = at::arange(row + worker, end, virtual_workers);
      const at::Tensor error =
          forward(parameters, x.index_select(0, mine)) - y.index_select(0, mine);
      const at::Tensor loss = error.square().sum();
      terms.push_back(torch::autograd::grad({loss}, parameters));
      loss_sum += loss.item<double>();
    }
    losses.push_back(loss_sum / rows);
    Tensors gradients = sum_in_pairs(std::move(terms));
    for (at::Tensor& gradient : gradients) gradient = gradient / rows;
    if (clip_norm > 0) clip(gradients, clip_norm);
    const at::NoGradGuard no_grad;
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      if (step == 0) velocity.push_back(at::zeros_like(gradients[p]));
      velocity[p] = velocity[p] * momentum + gradients[p];
      parameters[p].sub_(velocity[p] * lr);
    }
    row = end == x.size(0) ? 0 : end;
  }
  return losses;
}

}  // namespace trireme::test
