#include "trireme/tensor/backward_call.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <utility>

namespace trireme {

namespace {

// The identity. A node of its own stays in the graph even if `x` is a view or is changed in place
// later, where hooks of a tensor are lost.
class CallNode final : public torch::autograd::Node {
 public:
  explicit CallNode(std::function<void()> call) : call_(std::move(call)) {}

 private:
  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    call_();
    return std::move(gradients);
  }

  std::function<void()> call_;
};

}  // namespace

at::Tensor call_in_backward(const at::Tensor& x, std::function<void()> call) {
  if (!x.requires_grad() || !at::GradMode::is_enabled()) return x;
  const std::shared_ptr<CallNode> node(new CallNode(std::move(call)), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(x));
  at::Tensor result = x.detach();
  torch::autograd::set_history(result, node);
  return result;
}

}  // namespace trireme
