#include "trireme/model/loss.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/base/text.h"

namespace trireme {

namespace {

std::string describe(const Target& target) {
  switch (target.kind) {
    case Target::Kind::kNumbers:
      return fmt::format("{} a sample", counted(target.width, "number"));
    case Target::Kind::kClass:
      return fmt::format("{} classes", target.classes);
    case Target::Kind::kTokens:
      break;
  }
  return fmt::format("{} tokens of {} classes a sample", target.length, target.classes);
}

void require(bool suits, const Target& target, std::string_view name, std::string_view wanted) {
  if (suits) return;
  throw UsageError(
      fmt::format("loss {} needs {}; the target has {}", name, wanted, describe(target)));
}

void require_no_terms(std::string_view name, const VocabularyLossTerms& terms) {
  if (terms.label_smoothing == 0 && terms.z_loss == 0) return;
  throw UsageError(fmt::format(
      "label smoothing and z-loss are terms of a cross-entropy, and the loss is {}; use "
      "training.loss = \"cross_entropy\"",
      name));
}

[[noreturn]] void refuse_targets(const at::Tensor& target, const std::string& wanted) {
  throw UsageError(fmt::format("the loss needs targets of {}, got {} [{}]", wanted,
                               at::toString(target.scalar_type()),
                               fmt::join(target.sizes(), ", ")));
}

// The class of each row.
at::Tensor classes_of(const at::Tensor& target, const at::Tensor& rows) {
  if (target.numel() != rows.size(0) || target.scalar_type() != at::kLong) {
    refuse_targets(target, fmt::format("{} classes as i64", rows.size(0)));
  }
  return target.flatten();
}

at::Tensor like(const at::Tensor& target, const at::Tensor& rows) {
  const bool has_same_rows = target.dim() >= 1 && target.dim() <= 2 &&
                             target.size(0) == rows.size(0) && target.numel() == rows.numel();
  // libtorch would repeat a target of one row.
  if (!has_same_rows) {
    refuse_targets(target, fmt::format("[{}]", fmt::join(rows.sizes(), ", ")));
  }
  const at::Tensor typed =
      target.scalar_type() == rows.scalar_type() ? target : target.to(rows.scalar_type());
  return typed.dim() == 2 ? typed : typed.view({-1, 1});
}

double total(const at::Tensor& x) {
  return x.sum(at::kDouble).item<double>();
}

// libtorch's own error does not say which class a label may have.
at::Tensor negative_log_likelihood(const at::Tensor& rows, const at::Tensor& classes,
                                   double label_smoothing) {
  try {
    return at::cross_entropy_loss(rows, classes, {}, at::Reduction::Sum, Target::kIgnored,
                                  label_smoothing);
  } catch (const c10::IndexError&) {
    const at::Tensor counted = classes.masked_select(classes.ne(Target::kIgnored));
    throw UsageError(fmt::format(
        "loss cross_entropy: a class must lie in [0, {}), got classes from {} to {}", rows.size(1),
        counted.min().item<std::int64_t>(), counted.max().item<std::int64_t>()));
  }
}

EvaluationSums of_numbers(const at::Tensor& rows, const at::Tensor& target, double shift) {
  const at::Tensor y = like(target, rows);
  const at::Tensor shifted = y - shift;
  EvaluationSums sums;
  sums.values = static_cast<double>(y.numel());
  sums.y = total(shifted);
  sums.y_squared = total(shifted.square());
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

// Samples count whatever their class is; tokens count unless they are padding.
double weight_of(const at::Tensor& classes, const Target& target) {
  if (target.kind != Target::Kind::kTokens) return static_cast<double>(classes.size(0));
  return total(classes.ne(Target::kIgnored));
}

EvaluationSums of_classes(const at::Tensor& rows, const at::Tensor& target) {
  const at::Tensor classes = classes_of(target, rows);
  EvaluationSums sums;
  sums.loss = negative_log_likelihood(rows, classes, 0).item<double>();
  sums.correct = total(rows.argmax(1).eq(classes));
  return sums;
}

}  // namespace

// A row for each sample, or for each token.
at::Tensor Loss::rows_of(const at::Tensor& output) const {
  const bool is_tokens = target_.kind == Target::Kind::kTokens;
  if (output.dim() == (is_tokens ? 3 : 2) && output.size(-1) == outputs_) {
    return is_tokens ? output.flatten(0, 1) : output;
  }
  if (output.dim() == 1 && outputs_ == 1) return output.unsqueeze(1);
  throw UsageError(fmt::format("the model must give [batch, {}{}], got [{}]",
                               is_tokens ? "length, " : "", outputs_,
                               fmt::join(output.sizes(), ", ")));
}

at::Tensor Loss::cross_entropy(const at::Tensor& rows, const at::Tensor& classes) const {
  at::Tensor sum = negative_log_likelihood(rows, classes, terms_.label_smoothing);
  if (terms_.z_loss == 0) return sum;
  const at::Tensor counts = classes.ne(Target::kIgnored).to(rows.scalar_type());
  return sum + terms_.z_loss * (rows.logsumexp(1).square() * counts).sum();
}

LossSum Loss::operator()(const at::Tensor& output, const at::Tensor& target) const {
  const at::Tensor rows = rows_of(output);
  const auto count = static_cast<double>(rows.size(0));
  switch (kind_) {
    case Kind::kMse: {
      const at::Tensor sum = at::mse_loss(rows, like(target, rows), at::Reduction::Sum);
      return {rows.size(1) == 1 ? sum : sum.div(rows.size(1)), count};
    }
    case Kind::kBceWithLogits:
      return {at::binary_cross_entropy_with_logits(rows, like(target, rows), {}, {},
                                                   at::Reduction::Sum),
              count};
    case Kind::kCrossEntropy:
      break;
  }
  const at::Tensor classes = classes_of(target, rows);
  return {cross_entropy(rows, classes), weight_of(classes, target_)};
}

EvaluationSums Loss::evaluate(const at::Tensor& output, const at::Tensor& target,
                              double shift) const {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = rows_of(output).to(at::kDouble);
  EvaluationSums sums = kind_ == Kind::kMse             ? of_numbers(rows, target, shift)
                        : kind_ == Kind::kBceWithLogits ? of_log_odds(rows, target)
                                                        : of_classes(rows, target);
  sums.samples = static_cast<double>(output.size(0));
  sums.weight = kind_ == Kind::kCrossEntropy ? weight_of(target.flatten(), target_) : sums.samples;
  return sums;
}

Loss make_loss(const Target& target, std::string_view name, const VocabularyLossTerms& terms) {
  const bool is_class = target.kind == Target::Kind::kClass;
  if (name == "auto") {
    name = target.is_numbers()               ? "mse"
           : is_class && target.classes == 2 ? "bce_with_logits"
                                             : "cross_entropy";
  }
  if (name == "mse") {
    require(target.is_numbers(), target, name, "numbers");
    require_no_terms(name, terms);
    return {Loss::Kind::kMse, target, target.width, terms};
  }
  if (name == "bce_with_logits") {
    require(is_class && target.classes == 2, target, name, "two classes");
    require_no_terms(name, terms);
    return {Loss::Kind::kBceWithLogits, target, 1, terms};
  }
  if (name == "cross_entropy") {
    require(!target.is_numbers() && target.classes >= 2, target, name, "at least two classes");
    return {Loss::Kind::kCrossEntropy, target, target.classes, terms};
  }
  throw UsageError(fmt::format(
      "loss must be one of auto, mse, bce_with_logits, cross_entropy; got \"{}\"", name));
}

}  // namespace trireme
