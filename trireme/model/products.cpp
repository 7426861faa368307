#include "trireme/model/products.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/kernels/cast.h"
#include "trireme/tensor/in_parts.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void require_f32(const at::Tensor& x) {
  if (x.scalar_type() == at::kFloat) return;
  throw UsageError(
      fmt::format("mixed precision needs matrices of f32, got {}", at::toString(x.scalar_type())));
}

at::Tensor rounded(const at::Tensor& x, DType type) {
  const at::Tensor from = x.contiguous();
  at::Tensor to = at::empty(from.sizes(), from.options());
  in_parts(
      [type](const Buffer& out, const Buffer& in) {
        round_to(type, in.as<const float>(), out.as<float>(), in.count);
      },
      to, from);
  return to;
}

at::Tensor operand_of_kept(const at::Tensor& kept, const ComputeType& compute) {
  return compute.native ? kept : widened(kept);
}

at::Tensor f32_of(const at::Tensor& product) {
  return product.scalar_type() == at::kFloat ? product : widened(product);
}

class ProductFunction : public torch::autograd::Function<ProductFunction> {
 public:
  // x: [n, in]; kept: x, rounded.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& kept,
                            const at::Tensor& weight, const c10::optional<at::Tensor>& bias,
                            bool is_transposed, const ComputeType& compute) {
    context->save_for_backward({kept, weight});
    auto& data = context->saved_data;
    data["is_transposed"] = is_transposed;
    data["operands"] = static_cast<std::int64_t>(compute.operands);
    data["native"] = compute.native;
    data["needs_dx"] = x.requires_grad();
    data["needs_dweight"] = weight.requires_grad();
    data["needs_dbias"] = bias && bias->requires_grad();
    at::Tensor w = operand(weight, compute);
    if (is_transposed) w = w.t();
    const at::Tensor a = operand_of_kept(kept, compute);
    if (bias && !compute.native) return at::addmm(*bias, a, w);
    at::Tensor y = f32_of(at::mm(a, w));
    return bias ? y.add_(*bias) : y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    auto& data = context->saved_data;
    const ComputeType compute{.operands = static_cast<DType>(data["operands"].toInt()),
                              .native = data["native"].toBool()};
    const bool is_transposed = data["is_transposed"].toBool();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor dy = operand(gradients[0], compute);
    at::Tensor dx, dweight, dbias;
    if (data["needs_dx"].toBool()) {
      const at::Tensor w = operand(saved[1], compute);
      dx = f32_of(at::mm(dy, is_transposed ? w : w.t()));
    }
    if (data["needs_dweight"].toBool()) {
      const at::Tensor x = operand_of_kept(saved[0], compute);
      dweight = f32_of(is_transposed ? at::mm(dy.t(), x) : at::mm(x.t(), dy));
    }
    if (data["needs_dbias"].toBool()) dbias = gradients[0].sum(0);
    return {dx, at::Tensor(), dweight, dbias, at::Tensor(), at::Tensor()};
  }
};

at::Tensor rows_of(const at::Tensor& x) {
  return x.reshape({-1, x.size(-1)});
}

// [n, out] as [..., out] for an x of [..., in].
at::Tensor shaped_as(const at::Tensor& x, const at::Tensor& y) {
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.back() = y.size(1);
  return y.view(sizes);
}

at::Tensor rounded_product(const ProductInput& x, const at::Tensor& weight, const at::Tensor& bias,
                           bool is_transposed) {
  require_f32(weight);
  // libtorch takes no undefined tensors as arguments of a function.
  const auto added = bias.defined() ? c10::make_optional(bias) : c10::nullopt;
  return shaped_as(x.x(), ProductFunction::apply(rows_of(x.x()), x.kept(), weight, added,
                                                 is_transposed, x.compute()));
}

}  // namespace

ProductInput::ProductInput(const at::Tensor& x, const ComputeType& compute)
    : x_(x), compute_(compute) {
  if (!compute.rounds()) return;
  require_f32(x);
  kept_ = narrowed(rows_of(x.detach()), compute.operands);
}

at::Tensor multiply(const ProductInput& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (x.kept().defined()) return rounded_product(x, weight, bias, false);
  const at::Tensor rows = rows_of(x.x());
  return shaped_as(x.x(), bias.defined() ? at::addmm(bias, rows, weight) : at::mm(rows, weight));
}

at::Tensor linear(const ProductInput& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (x.kept().defined()) return rounded_product(x, weight, bias, true);
  return at::linear(x.x(), weight, bias);
}

at::Tensor operand(const at::Tensor& x, const ComputeType& compute) {
  if (!compute.rounds()) return x;
  return compute.native ? narrowed(x, compute.operands) : rounded(x, compute.operands);
}

void put_product(at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == out.scalar_type()) {
    at::mm_out(out, a, b);
  } else {
    out.copy_(at::mm(a, b));
  }
}

void add_product(at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == out.scalar_type()) {
    out.addmm_(a, b);
  } else {
    out.add_(at::mm(a, b));
  }
}

at::Tensor narrowed(const at::Tensor& x, DType type) {
  const at::Tensor from = x.contiguous();
  at::Tensor to = at::empty(from.sizes(), from.options().dtype(scalar_type_of(type)));
  in_parts([](const Buffer& out, const Buffer& in) { narrow(in.as<const float>(), out); }, to,
           from);
  return to;
}

at::Tensor widened(const at::Tensor& x) {
  const at::Tensor from = x.contiguous();
  at::Tensor to = at::empty(from.sizes(), from.options().dtype(at::kFloat));
  in_parts([](const Buffer& out, const Buffer& in) { widen(in, out.as<float>()); }, to, from);
  return to;
}

}  // namespace trireme
