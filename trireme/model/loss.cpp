#include "trireme/model/loss.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "trireme/base/error.h"

namespace trireme {

namespace {

std::string describe(const Target& target) {
  return target.classes > 0 ? fmt::format("{} classes", target.classes)
                            : fmt::format("{} number(s) a sample", target.width);
}

void require(bool suits, const Target& target, std::string_view name, std::string_view wanted) {
  if (suits) return;
  throw UsageError(
      fmt::format("loss {} needs {}; the target has {}", name, wanted, describe(target)));
}

// Log-probabilities [n, classes] as they are, numbers and log-odds as [n, width].
at::Tensor as_rows(const at::Tensor& output, std::int64_t outputs) {
  if (output.dim() == 2 && output.size(1) == outputs) return output;
  if (output.dim() == 1 && outputs == 1) return output.unsqueeze(1);
  throw UsageError(fmt::format("the model must give [batch, {}], got [{}]", outputs,
                               fmt::join(output.sizes(), ", ")));
}

at::Tensor like(const at::Tensor& target, const at::Tensor& rows) {
  const at::Tensor typed =
      target.scalar_type() == rows.scalar_type() ? target : target.to(rows.scalar_type());
  return typed.dim() == 2 ? typed : typed.view({-1, 1});
}

double total(const at::Tensor& x) {
  return x.sum(at::kDouble).item<double>();
}

EvaluationSums of_numbers(const at::Tensor& rows, const at::Tensor& target) {
  const at::Tensor y = like(target, rows);
  EvaluationSums sums;
  sums.values = static_cast<double>(y.numel());
  sums.y = total(y);
  sums.y_squared = total(y.square());
  sums.squared_error = total((rows - y).square());
  sums.loss = sums.squared_error / static_cast<double>(rows.size(1));
  return sums;
}

EvaluationSums of_log_odds(const at::Tensor& rows, const at::Tensor& target) {
  const at::Tensor y = like(target, rows);
  EvaluationSums sums;
  sums.loss =
      at::binary_cross_entropy_with_logits(rows, y, {}, {}, at::Reduction::Sum).item<double>();
  sums.correct = total((rows > 0).eq(y > 0.5));
  return sums;
}

EvaluationSums of_classes(const at::Tensor& rows, const at::Tensor& target) {
  const at::Tensor classes = target.flatten();
  EvaluationSums sums;
  sums.loss = at::cross_entropy_loss(rows, classes, {}, at::Reduction::Sum).item<double>();
  sums.correct = total(rows.argmax(1).eq(classes));
  return sums;
}

}  // namespace

at::Tensor Loss::operator()(const at::Tensor& output, const at::Tensor& target) const {
  const at::Tensor rows = as_rows(output, outputs_);
  switch (kind_) {
    case Kind::kMse:
      return at::mse_loss(rows, like(target, rows));
    case Kind::kBceWithLogits:
      return at::binary_cross_entropy_with_logits(rows, like(target, rows));
    case Kind::kCrossEntropy:
      break;
  }
  return at::cross_entropy_loss(rows, target.flatten());
}

EvaluationSums Loss::evaluate(const at::Tensor& output, const at::Tensor& target) const {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = as_rows(output, outputs_).to(at::kDouble);
  EvaluationSums sums = kind_ == Kind::kMse             ? of_numbers(rows, target)
                        : kind_ == Kind::kBceWithLogits ? of_log_odds(rows, target)
                                                        : of_classes(rows, target);
  sums.samples = static_cast<double>(rows.size(0));
  return sums;
}

Loss make_loss(const Target& target, std::string_view name) {
  if (name == "auto") {
    name = target.classes == 0 ? "mse" : target.classes == 2 ? "bce_with_logits" : "cross_entropy";
  }
  if (name == "mse") {
    require(target.classes == 0, target, name, "numbers");
    return {Loss::Kind::kMse, target.width};
  }
  if (name == "bce_with_logits") {
    require(target.classes == 2, target, name, "two classes");
    return {Loss::Kind::kBceWithLogits, 1};
  }
  if (name == "cross_entropy") {
    require(target.classes >= 2, target, name, "at least two classes");
    return {Loss::Kind::kCrossEntropy, target.classes};
  }
  throw UsageError(fmt::format(
      "loss must be one of auto, mse, bce_with_logits, cross_entropy; got \"{}\"", name));
}

}  // namespace trireme
