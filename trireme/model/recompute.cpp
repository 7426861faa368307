#include "trireme/model/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace trireme {

namespace {

using torch::autograd::variable_list;

class RecomputeNode final : public torch::autograd::Node {
 public:
  RecomputeNode(at::Tensor input, variable_list parameters,
                std::function<at::Tensor(const at::Tensor&)> forward)
      : input_(std::move(input)),
        parameters_(std::move(parameters)),
        forward_(std::move(forward)) {}

  void release_variables() override { input_.reset(); }

 private:
  variable_list apply(variable_list&& gradients) override {
    const at::AutoGradMode enabled(true);
    const bool has_gradient = input_.requires_grad();
    const at::Tensor input = input_.detach().requires_grad_(has_gradient);
    const at::Tensor output = forward_(input);
    variable_list wanted;
    if (has_gradient) wanted.push_back(input);
    wanted.insert(wanted.end(), parameters_.begin(), parameters_.end());
    variable_list found = torch::autograd::grad({output}, wanted, {gradients[0]}, c10::nullopt,
                                                /*create_graph=*/false, /*allow_unused=*/true);
    if (!has_gradient) found.insert(found.begin(), at::Tensor());
    return found;
  }

  at::Tensor input_;
  variable_list parameters_;
  std::function<at::Tensor(const at::Tensor&)> forward_;
};

}  // namespace

at::Tensor recomputed(const at::Tensor& input, std::vector<at::Tensor> parameters,
                      std::function<at::Tensor(const at::Tensor&)> forward) {
  std::erase_if(parameters, [](const at::Tensor& p) { return !p.requires_grad(); });
  at::Tensor output;
  {
    const at::NoGradGuard no_grad;
    output = forward(input);
  }
  if (!input.requires_grad() && parameters.empty()) return output;
  variable_list inputs{input};
  inputs.insert(inputs.end(), parameters.begin(), parameters.end());
  const std::shared_ptr<RecomputeNode> node(
      new RecomputeNode(input, std::move(parameters), std::move(forward)),
      torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  at::Tensor result = output.detach();
  torch::autograd::set_history(result, node);
  return result;
}

}  // namespace trireme
