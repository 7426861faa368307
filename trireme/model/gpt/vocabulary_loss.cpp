#include "trireme/model/gpt/vocabulary_loss.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/data/dataset.h"
#include "trireme/kernels/softmax.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Logits of a chunk: small enough to stay in a cache, and enough rows for a fast product.
constexpr std::int64_t kChunkBytes = std::int64_t{8} << 20;
constexpr std::int64_t kLeastRows = 64;

std::int64_t rows_of_chunk(const at::Tensor& hidden, const at::Tensor& weight) {
  const auto bytes = weight.size(0) * static_cast<std::int64_t>(hidden.element_size());
  return std::clamp(kChunkBytes / bytes, std::min(kLeastRows, hidden.size(0)), hidden.size(0));
}

std::span<const std::int64_t> targets_of(const at::Tensor& target) {
  return {target.data_ptr<std::int64_t>(), static_cast<std::size_t>(target.numel())};
}

void add(VocabularyLossSums& all, const VocabularyLossSums& more) {
  all.loss += more.loss;
  all.counted += more.counted;
  all.correct += more.correct;
}

/// Rows of tokens: hidden [rows, width] and their targets.
struct Rows {
  at::Tensor hidden;
  at::Tensor target;
};

Rows rows_of(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target) {
  if (hidden.dim() != 3 || weight.dim() != 2 || hidden.size(2) != weight.size(1) ||
      target.sizes() != hidden.sizes().slice(0, 2) || target.scalar_type() != at::kLong) {
    throw UsageError(
        fmt::format("vocabulary_loss: hidden must be [n, length, width], weight [vocabulary, "
                    "width] and targets "
                    "[n, length] of i64, got [{}], [{}] and [{}] of {}",
                    fmt::join(hidden.sizes(), ", "), fmt::join(weight.sizes(), ", "),
                    fmt::join(target.sizes(), ", "), at::toString(target.scalar_type())));
  }
  return {hidden.reshape({-1, hidden.size(2)}), target.reshape(-1).contiguous()};
}

class VocabularyLossFunction : public torch::autograd::Function<VocabularyLossFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& hidden,
                               const at::Tensor& weight, const at::Tensor& target,
                               const VocabularyLossTerms& terms, const ComputeType& compute,
                               VocabularyLossSums* sums) {
    const std::int64_t rows = hidden.size(0);
    const std::int64_t chunk = rows_of_chunk(hidden, weight);
    at::Tensor dhidden = at::empty_like(hidden);
    at::Tensor dweight = at::empty_like(weight);
    at::Tensor memory = at::empty({chunk, weight.size(0)}, hidden.options());
    const at::Tensor x = operand(hidden, compute), w = operand(weight, compute);
    for (std::int64_t first = 0; first < rows; first += chunk) {
      const std::int64_t count = std::min(chunk, rows - first);
      const at::Tensor part = x.narrow(0, first, count);
      at::Tensor logits = memory.narrow(0, 0, count);
      put_product(logits, part, w.t());
      add(*sums, vocabulary_loss_and_gradient(buffer_of(logits),
                                              targets_of(target.narrow(0, first, count)),
                                              Target::kIgnored, terms));
      const at::Tensor gradient = operand(logits, compute);
      at::Tensor out = dhidden.narrow(0, first, count);
      put_product(out, gradient, w);
      if (first == 0) {
        put_product(dweight, gradient.t(), part);
      } else {
        add_product(dweight, gradient.t(), part);
      }
    }
    context->saved_data["dhidden"] = dhidden;
    context->saved_data["dweight"] = dweight;
    return {at::scalar_tensor(sums->loss, hidden.options())};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    at::Tensor dhidden = context->saved_data["dhidden"].toTensor();
    at::Tensor dweight = context->saved_data["dweight"].toTensor();
    context->saved_data.clear();
    if (const double scale = gradients[0].item<double>(); scale != 1) {
      dhidden = dhidden.mul_(scale);
      dweight = dweight.mul_(scale);
    }
    return {dhidden, dweight, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

VocabularyLossSums sums_without_gradient(const Rows& rows, const at::Tensor& weight,
                                         const VocabularyLossTerms& terms,
                                         const ComputeType& compute) {
  const at::NoGradGuard no_grad;
  const std::int64_t count = rows.hidden.size(0);
  const std::int64_t chunk = rows_of_chunk(rows.hidden, weight);
  VocabularyLossSums sums;
  const at::Tensor x = operand(rows.hidden, compute), w = operand(weight, compute);
  at::Tensor memory = at::empty({chunk, weight.size(0)}, rows.hidden.options());
  for (std::int64_t first = 0; first < count; first += chunk) {
    const std::int64_t part = std::min(chunk, count - first);
    at::Tensor logits = memory.narrow(0, 0, part);
    put_product(logits, x.narrow(0, first, part), w.t());
    add(sums, vocabulary_loss(buffer_of(logits), targets_of(rows.target.narrow(0, first, part)),
                              Target::kIgnored, terms));
  }
  return sums;
}

}  // namespace

LossSum vocabulary_loss(const at::Tensor& hidden, const at::Tensor& weight,
                        const at::Tensor& target, const Loss& loss, const ComputeType& compute) {
  const Rows rows = rows_of(hidden, weight, target);
  VocabularyLossSums sums;
  if (!at::GradMode::is_enabled() || !(hidden.requires_grad() || weight.requires_grad())) {
    sums = sums_without_gradient(rows, weight, loss.terms(), compute);
    return {at::scalar_tensor(sums.loss, hidden.options()), sums.counted};
  }
  const variable_list result = VocabularyLossFunction::apply(
      rows.hidden.contiguous(), weight, rows.target, loss.terms(), compute, &sums);
  return {result[0], sums.counted};
}

EvaluationSums evaluate_vocabulary(const at::Tensor& hidden, const at::Tensor& weight,
                                   const at::Tensor& target, const ComputeType& compute) {
  const VocabularyLossSums sums =
      sums_without_gradient(rows_of(hidden, weight, target), weight, {}, compute);
  EvaluationSums all;
  all.samples = static_cast<double>(hidden.size(0));
  all.weight = sums.counted;
  all.loss = sums.loss;
  all.correct = sums.correct;
  return all;
}

}  // namespace trireme
