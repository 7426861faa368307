#include "trireme/model/gpt/functions.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/kernels/activation.h"
#include "trireme/kernels/rms_norm.h"
#include "trireme/tensor/in_parts.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class DropFunction : public torch::autograd::Function<DropFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, double fraction,
                            std::int64_t seed, std::int64_t stream) {
    context->saved_data["fraction"] = fraction;
    context->saved_data["seed"] = seed;
    context->saved_data["stream"] = stream;
    return apply_to(x.clone(at::MemoryFormat::Contiguous), fraction, seed, stream);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    auto& data = context->saved_data;
    at::Tensor gradient =
        apply_to(gradients[0].clone(at::MemoryFormat::Contiguous), data["fraction"].toDouble(),
                 data["seed"].toInt(), data["stream"].toInt());
    return {gradient, at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static at::Tensor apply_to(at::Tensor x, double fraction, std::int64_t seed,
                             std::int64_t stream) {
    drop(buffer_of(x), {.fraction = fraction,
                        .seed = static_cast<std::uint64_t>(seed),
                        .stream = static_cast<std::uint64_t>(stream)});
    return x;
  }
};

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            double eps) {
    at::Tensor y = at::empty_like(x);
    at::Tensor inverse = at::empty({x.numel() / weight.numel()}, x.options());
    rms_norm(buffer_of(y), buffer_of(inverse), buffer_of(x), buffer_of(weight), eps);
    context->save_for_backward({x, weight, inverse});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    at::Tensor dx = at::empty_like(saved[0]);
    at::Tensor dweight = at::zeros_like(saved[1]);
    const at::Tensor dy = gradients[0].contiguous();
    rms_norm_backward(buffer_of(dx), buffer_of(dweight), buffer_of(dy), buffer_of(saved[0]),
                      buffer_of(saved[1]), buffer_of(saved[2]));
    return {dx, dweight, at::Tensor()};
  }
};

class GeluFunction : public torch::autograd::Function<GeluFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    context->save_for_backward({x});
    at::Tensor y = at::empty_like(x);
    in_parts(gelu_of, y, x);
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor x = context->get_saved_variables()[0];
    at::Tensor dx = at::empty_like(x);
    in_parts(gelu_backward, dx, gradients[0].contiguous(), x);
    return {dx};
  }

 private:
  static void gelu_of(const Buffer& y, const Buffer& x) { trireme::gelu(y, x); }
};

class SwigluFunction : public torch::autograd::Function<SwigluFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate,
                            const at::Tensor& up) {
    context->save_for_backward({gate, up});
    at::Tensor y = at::empty_like(gate);
    in_parts(swiglu_of, y, gate, up);
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    at::Tensor dgate = at::empty_like(saved[0]);
    at::Tensor dup = at::empty_like(saved[0]);
    const at::Tensor dy = gradients[0].contiguous();
    in_parts(swiglu_backward, dgate, dup, dy, saved[0], saved[1]);
    return {dgate, dup};
  }

 private:
  static void swiglu_of(const Buffer& y, const Buffer& gate, const Buffer& up) {
    trireme::swiglu(y, gate, up);
  }
};

std::span<const std::int64_t> indices_of(const at::Tensor& x) {
  return {x.data_ptr<std::int64_t>(), static_cast<std::size_t>(x.numel())};
}

at::Tensor positions_or_count(const at::Tensor& positions, const at::Tensor& tokens) {
  if (positions.defined()) return positions.contiguous();
  return at::arange(tokens.size(1), tokens.options()).expand_as(tokens).contiguous();
}

void require_rows(const at::Tensor& indices, const at::Tensor& table, std::string_view what,
                  std::string_view of) {
  for (const std::int64_t index : indices_of(indices)) {
    if (index >= 0 && index < table.size(0)) continue;
    throw UsageError(fmt::format("model: a {} must lie in [0, {}), the {}, got {}", what,
                                 table.size(0), of, index));
  }
}

template <class T>
void gather_rows(T* y, const T* table, std::span<const std::int64_t> indices, std::int64_t width,
                 bool adds) {
  for (const std::int64_t index : indices) {
    const T* const row = table + index * width;
    if (adds) {
      for (std::int64_t i = 0; i < width; ++i) y[i] += row[i];
    } else {
      std::copy_n(row, width, y);
    }
    y += width;
  }
}

template <class T>
void scatter_rows(T* table, const T* y, std::span<const std::int64_t> indices, std::int64_t width) {
  for (const std::int64_t index : indices) {
    T* const row = table + index * width;
    for (std::int64_t i = 0; i < width; ++i) row[i] += y[i];
    y += width;
  }
}

void gather(const at::Tensor& y, const at::Tensor& table, const at::Tensor& indices, bool adds) {
  AT_DISPATCH_FLOATING_TYPES(table.scalar_type(), "embed", [&] {
    gather_rows(y.data_ptr<scalar_t>(), table.data_ptr<scalar_t>(), indices_of(indices),
                table.size(1), adds);
  });
}

// In the order of the tokens.
at::Tensor scatter(const at::Tensor& dy, const at::Tensor& indices, std::int64_t rows) {
  at::Tensor table = at::zeros({rows, dy.size(-1)}, dy.options());
  AT_DISPATCH_FLOATING_TYPES(table.scalar_type(), "embed", [&] {
    scatter_rows(table.data_ptr<scalar_t>(), dy.data_ptr<scalar_t>(), indices_of(indices),
                 table.size(1));
  });
  return table;
}

class EmbedFunction : public torch::autograd::Function<EmbedFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& tokens,
                            const at::Tensor& table, const c10::optional<at::Tensor>& positions,
                            const c10::optional<at::Tensor>& places) {
    at::Tensor y = at::empty({tokens.size(0), tokens.size(1), table.size(1)}, table.options());
    gather(y, table, tokens, false);
    if (places) gather(y, *places, *positions, true);
    context->save_for_backward({tokens, positions.value_or(at::Tensor())});
    context->saved_data["rows"] = table.size(0);
    context->saved_data["places"] = places ? places->size(0) : 0;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor dy = gradients[0].contiguous();
    const std::int64_t places = context->saved_data["places"].toInt();
    at::Tensor dtable = scatter(dy, saved[0], context->saved_data["rows"].toInt());
    at::Tensor dplaces = places > 0 ? scatter(dy, saved[1], places) : at::Tensor();
    return {at::Tensor(), dtable, at::Tensor(), dplaces};
  }
};

}  // namespace

at::Tensor dropped(const at::Tensor& x, const Dropout& dropout) {
  if (dropout.fraction == 0) return x;
  return DropFunction::apply(x, dropout.fraction, static_cast<std::int64_t>(dropout.seed),
                             static_cast<std::int64_t>(dropout.stream));
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNormFunction::apply(x.contiguous(), weight, eps);
}

at::Tensor gelu_tanh(const at::Tensor& x) {
  return GeluFunction::apply(x.contiguous());
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return SwigluFunction::apply(gate.contiguous(), up.contiguous());
}

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& table, const at::Tensor& positions,
                 const at::Tensor& places) {
  if (tokens.dim() != 2 || tokens.scalar_type() != at::kLong) {
    throw UsageError(fmt::format("model: tokens must be [n, length] of i64, got [{}] of {}",
                                 fmt::join(tokens.sizes(), ", "),
                                 at::toString(tokens.scalar_type())));
  }
  const at::Tensor dense = tokens.contiguous();
  require_rows(dense, table, "token", "vocabulary of the model");
  // libtorch takes no undefined tensors as arguments of a function.
  c10::optional<at::Tensor> of_tokens;
  c10::optional<at::Tensor> rows;
  if (places.defined()) {
    of_tokens = positions_or_count(positions, dense);
    rows = places;
    require_rows(*of_tokens, places, "position", "context of the model");
  }
  return EmbedFunction::apply(dense, table, of_tokens, rows);
}

}  // namespace trireme
