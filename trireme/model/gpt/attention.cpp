#include "trireme/model/gpt/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/kernels/cast.h"
#include "trireme/kernels/rotary.h"
#include "trireme/kernels/softmax.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The columns that each row of each sample attends to.
struct Spans {
  std::vector<std::int32_t> begin;
  std::vector<std::int32_t> end;
};

Spans spans_of(const at::Tensor& positions, std::int64_t samples, std::int64_t length) {
  const auto count = static_cast<std::size_t>(samples * length);
  Spans spans{std::vector<std::int32_t>(count, 0), std::vector<std::int32_t>(count)};
  const std::int64_t* const position =
      positions.defined() ? positions.data_ptr<std::int64_t>() : nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    const auto column = static_cast<std::int64_t>(i) % length;
    if (position != nullptr) {
      spans.begin[i] = static_cast<std::int32_t>(std::max<std::int64_t>(0, column - position[i]));
    }
    spans.end[i] = static_cast<std::int32_t>(column + 1);
  }
  return spans;
}

/// The heads of one attention, forward and backward.
class Core {
 public:
  Core(const at::Tensor& packed, const at::Tensor& positions, const AttentionOptions& options)
      : packed_(packed),
        options_(options),
        samples_(packed.size(0)),
        length_(packed.size(1)),
        row_(packed.size(2)),
        spans_(spans_of(positions, samples_, length_)) {}

  at::Tensor forward(at::Tensor& probabilities) {
    at::Tensor y =
        at::empty({samples_, length_, options_.heads * options_.head_width}, packed_.options());
    if (!options_.recompute) {
      probabilities = at::empty({samples_, options_.heads, length_, length_},
                                packed_.options().dtype(kept_type()));
    }
    at::parallel_for(0, samples_ * options_.heads, 1, [&](std::int64_t begin, std::int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView guard;
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t sample = i / options_.heads, head = i % options_.heads;
        at::Tensor p = computed_probabilities(probabilities, sample, head);
        const at::Tensor dropped = options_.dropout.fraction > 0 ? drop_clone(p, sample, head) : p;
        at::Tensor out = head_of(y, sample, head);
        at::mm_out(out, dropped, value(packed_, sample, head));
      }
    });
    return y;
  }

  at::Tensor backward(const at::Tensor& dy, const at::Tensor& probabilities) {
    at::Tensor gradient = at::empty_like(packed_);
    const std::int64_t group = options_.heads / options_.kv_heads;
    at::parallel_for(0, samples_ * options_.kv_heads, 1, [&](std::int64_t begin, std::int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView guard;
      at::Tensor scores = at::empty({length_, length_}, packed_.options());
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t sample = i / options_.kv_heads;
        const std::int64_t first = i % options_.kv_heads * group;
        for (std::int64_t head = first; head < first + group; ++head) {
          backward_of(gradient, dy, probabilities, scores, sample, head, head == first);
        }
      }
    });
    return gradient;
  }

 private:
  void backward_of(at::Tensor& gradient, const at::Tensor& dy, const at::Tensor& probabilities,
                   at::Tensor& scores, std::int64_t sample, std::int64_t head, bool is_first) {
    const at::Tensor p = options_.recompute ? computed_probabilities({}, sample, head)
                                            : kept_probabilities(probabilities, sample, head);
    const bool drops = options_.dropout.fraction > 0;
    const at::Tensor dropped = drops ? drop_clone(p, sample, head) : p;
    const at::Tensor out = head_of(dy, sample, head);
    // The heads of a group share keys and values: their gradients are added in the order of heads.
    add_product(value(gradient, sample, head), dropped.t(), out, is_first);
    at::mm_out(scores, out, value(packed_, sample, head).t());
    if (drops) drop(scores, sample, head);
    attention_softmax_backward(buffer_of(scores), buffer_of(p), rows_of(sample));
    round_in_place(scores);
    at::Tensor dq = query(gradient, sample, head);
    at::mm_out(dq, scores, key(packed_, sample, head));
    add_product(key(gradient, sample, head), scores.t(), query(packed_, sample, head), is_first);
  }

  static void add_product(at::Tensor out, const at::Tensor& a, const at::Tensor& b, bool is_first) {
    if (is_first) {
      at::mm_out(out, a, b);
    } else {
      out.addmm_(a, b);
    }
  }

  AttentionRows rows_of(std::int64_t sample) const {
    const auto first = static_cast<std::size_t>(sample * length_);
    const auto count = static_cast<std::size_t>(length_);
    return {.columns = length_,
            .begin = std::span(spans_.begin).subspan(first, count),
            .end = std::span(spans_.end).subspan(first, count),
            .scale = 1 / std::sqrt(static_cast<double>(options_.head_width))};
  }

  at::ScalarType kept_type() const {
    return rounds() ? scalar_type_of(options_.compute.operands) : packed_.scalar_type();
  }
  bool rounds() const { return options_.compute.rounds(); }

  void round_in_place(const at::Tensor& x) const {
    if (!rounds()) return;
    round_to(options_.compute.operands, x.data_ptr<float>(), x.data_ptr<float>(), x.numel());
  }

  // The place of a head's probabilities.
  at::Tensor place_of(const at::Tensor& all, std::int64_t sample, std::int64_t head) const {
    return all.as_strided({length_, length_}, {length_, 1},
                          (sample * options_.heads + head) * length_ * length_);
  }

  // They are kept in `all`, if it is defined.
  at::Tensor computed_probabilities(const at::Tensor& all, std::int64_t sample,
                                    std::int64_t head) const {
    const bool in_place = all.defined() && !rounds();
    at::Tensor p =
        in_place ? place_of(all, sample, head) : at::empty({length_, length_}, packed_.options());
    at::mm_out(p, query(packed_, sample, head), key(packed_, sample, head).t());
    attention_softmax(buffer_of(p), rows_of(sample));
    if (!rounds()) return p;
    round_in_place(p);
    if (all.defined()) narrow(p.data_ptr<float>(), buffer_of(place_of(all, sample, head)));
    return p;
  }

  at::Tensor kept_probabilities(const at::Tensor& all, std::int64_t sample,
                                std::int64_t head) const {
    const at::Tensor kept = place_of(all, sample, head);
    if (!rounds()) return kept;
    at::Tensor p = at::empty({length_, length_}, packed_.options());
    widen(buffer_of(kept), p.data_ptr<float>());
    return p;
  }

  // Every probability of the attention has a number of its own.
  void drop(at::Tensor& p, std::int64_t sample, std::int64_t head) const {
    const auto first = (sample * options_.heads + head) * length_ * length_;
    trireme::drop(buffer_of(p), options_.dropout, static_cast<std::uint64_t>(first));
  }

  at::Tensor drop_clone(const at::Tensor& p, std::int64_t sample, std::int64_t head) const {
    at::Tensor copy = p.clone();
    drop(copy, sample, head);
    return copy;
  }

  at::Tensor columns(const at::Tensor& all, std::int64_t sample, std::int64_t slot) const {
    return all.as_strided({length_, options_.head_width}, {row_, 1},
                          sample * length_ * row_ + slot * options_.head_width);
  }
  at::Tensor query(const at::Tensor& all, std::int64_t sample, std::int64_t head) const {
    return columns(all, sample, head);
  }
  at::Tensor key(const at::Tensor& all, std::int64_t sample, std::int64_t head) const {
    return columns(all, sample, options_.heads + head * options_.kv_heads / options_.heads);
  }
  at::Tensor value(const at::Tensor& all, std::int64_t sample, std::int64_t head) const {
    return columns(all, sample,
                   options_.heads + options_.kv_heads + head * options_.kv_heads / options_.heads);
  }
  at::Tensor head_of(const at::Tensor& y, std::int64_t sample, std::int64_t head) const {
    const std::int64_t row = options_.heads * options_.head_width;
    return y.as_strided({length_, options_.head_width}, {row, 1},
                        sample * length_ * row + head * options_.head_width);
  }

  const at::Tensor& packed_;
  const AttentionOptions& options_;
  std::int64_t samples_;
  std::int64_t length_;
  std::int64_t row_;
  Spans spans_;
};

// libtorch takes no undefined tensors as arguments of a function.
c10::optional<at::Tensor> dense(const at::Tensor& x) {
  return x.defined() ? c10::make_optional(x.contiguous()) : c10::nullopt;
}

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& packed,
                            const c10::optional<at::Tensor>& positions,
                            const AttentionOptions& options) {
    const at::Tensor places = positions.value_or(at::Tensor());
    const ComputeType& compute = options.compute;
    at::Tensor kept = packed, operands = packed, probabilities;
    if (compute.rounds()) {
      kept = narrowed(packed, compute.operands);
      operands = widened(kept);
    }
    at::Tensor y = Core(operands, places, options).forward(probabilities);
    context->save_for_backward({kept, places, probabilities});
    context->saved_data["operands"] = static_cast<std::int64_t>(compute.operands);
    context->saved_data["heads"] = options.heads;
    context->saved_data["kv_heads"] = options.kv_heads;
    context->saved_data["head_width"] = options.head_width;
    context->saved_data["recompute"] = options.recompute;
    context->saved_data["fraction"] = options.dropout.fraction;
    context->saved_data["seed"] = static_cast<std::int64_t>(options.dropout.seed);
    context->saved_data["stream"] = static_cast<std::int64_t>(options.dropout.stream);
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const AttentionOptions options{
        .heads = data["heads"].toInt(),
        .kv_heads = data["kv_heads"].toInt(),
        .head_width = data["head_width"].toInt(),
        .recompute = data["recompute"].toBool(),
        .dropout = {.fraction = data["fraction"].toDouble(),
                    .seed = static_cast<std::uint64_t>(data["seed"].toInt()),
                    .stream = static_cast<std::uint64_t>(data["stream"].toInt())},
        .compute = {.operands = static_cast<DType>(data["operands"].toInt())}};
    const bool rounds = options.compute.rounds();
    const at::Tensor operands = rounds ? widened(saved[0]) : saved[0];
    const at::Tensor dy = operand(gradients[0].contiguous(), options.compute);
    return {Core(operands, saved[1], options).backward(dy, saved[2]), at::Tensor(), at::Tensor()};
  }
};

std::vector<std::int64_t> positions_or_count(const at::Tensor& positions, std::int64_t samples,
                                             std::int64_t length) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(samples * length));
  if (positions.defined()) {
    const std::int64_t* const first = positions.data_ptr<std::int64_t>();
    all.assign(first, first + samples * length);
  } else {
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i) % length;
  }
  return all;
}

// The three parts of a packed row.
struct Parts {
  std::int64_t queries;
  std::int64_t keys;
  std::int64_t row() const { return queries + 2 * keys; }
};

class PackRotatedFunction : public torch::autograd::Function<PackRotatedFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& queries,
                            const at::Tensor& keys, const at::Tensor& values,
                            const c10::optional<at::Tensor>& positions, std::int64_t head_width,
                            double theta) {
    context->save_for_backward({positions.value_or(at::Tensor())});
    context->saved_data["head_width"] = head_width;
    context->saved_data["theta"] = theta;
    const Parts parts{queries.size(2), keys.size(2)};
    context->saved_data["queries"] = parts.queries;
    const std::int64_t samples = queries.size(0), length = queries.size(1);
    at::Tensor packed = at::empty({samples, length, parts.row()}, queries.options());
    const auto places = positions_or_count(positions.value_or(at::Tensor()), samples, length);
    rotate_part(packed.narrow(2, 0, parts.queries), queries, places, head_width, theta, false);
    rotate_part(packed.narrow(2, parts.queries, parts.keys), keys, places, head_width, theta,
                false);
    packed.narrow(2, parts.queries + parts.keys, parts.keys).copy_(values);
    return packed;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor positions = context->get_saved_variables()[0];
    const at::Tensor g = gradients[0].contiguous();
    const std::int64_t head_width = context->saved_data["head_width"].toInt();
    const double theta = context->saved_data["theta"].toDouble();
    const std::int64_t wide = context->saved_data["queries"].toInt();
    const Parts parts{wide, (g.size(2) - wide) / 2};
    const std::int64_t samples = g.size(0), length = g.size(1);
    at::Tensor dq = at::empty({samples, length, parts.queries}, g.options());
    at::Tensor dk = at::empty({samples, length, parts.keys}, g.options());
    const auto places = positions_or_count(positions, samples, length);
    rotate_part(dq, g.narrow(2, 0, parts.queries), places, head_width, theta, true);
    rotate_part(dk, g.narrow(2, parts.queries, parts.keys), places, head_width, theta, true);
    at::Tensor dv = g.narrow(2, parts.queries + parts.keys, parts.keys).contiguous();
    return {dq, dk, dv, at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static void rotate_part(const at::Tensor& y, const at::Tensor& x,
                          std::span<const std::int64_t> positions, std::int64_t head_width,
                          double theta, bool backward) {
    rotate({y.data_ptr(), y.stride(1)}, {x.data_ptr(), x.stride(1)}, dtype_of(y.scalar_type()),
           positions, {.heads = y.size(2) / head_width, .width = head_width, .theta = theta},
           backward);
  }
};

}  // namespace

at::Tensor attention(const at::Tensor& packed, const at::Tensor& positions,
                     const AttentionOptions& options) {
  const std::int64_t wanted = (options.heads + 2 * options.kv_heads) * options.head_width;
  if (packed.dim() != 3 || packed.size(2) != wanted) {
    throw UsageError(
        fmt::format("attention: queries, keys and values must be [n, length, {}], got "
                    "[{}]",
                    wanted, fmt::join(packed.sizes(), ", ")));
  }
  return AttentionFunction::apply(packed.contiguous(), dense(positions), options);
}

at::Tensor attention_of_next(const at::Tensor& packed, at::Tensor& cache, std::int64_t read,
                             const AttentionOptions& options) {
  const at::NoGradGuard no_grad;
  const ComputeType compute{.operands = options.compute.operands};
  const std::int64_t samples = packed.size(0), count = packed.size(1), width = options.head_width;
  const std::int64_t all = read + count;
  cache.narrow(1, read, count).copy_(operand(packed, compute));
  // The slots of queries, keys and values: [n, all, slots, width].
  const at::Tensor slots =
      cache.narrow(1, 0, all).view({samples, all, options.heads + 2 * options.kv_heads, width});
  std::vector<std::int32_t> begin(static_cast<std::size_t>(count), 0);
  std::vector<std::int32_t> end(static_cast<std::size_t>(count));
  std::iota(end.begin(), end.end(), static_cast<std::int32_t>(read + 1));
  const AttentionRows rows{.columns = all,
                           .begin = begin,
                           .end = end,
                           .scale = 1 / std::sqrt(static_cast<double>(width))};
  at::Tensor y = at::empty({samples, count, options.heads, width}, packed.options());
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    for (std::int64_t head = 0; head < options.heads; ++head) {
      const std::int64_t group = head * options.kv_heads / options.heads;
      const at::Tensor of_sample = slots.select(0, sample);
      const at::Tensor queries = of_sample.select(1, head).narrow(0, read, count);
      const at::Tensor keys = of_sample.select(1, options.heads + group);
      const at::Tensor values = of_sample.select(1, options.heads + options.kv_heads + group);
      at::Tensor scores = at::mm(queries, keys.t());
      attention_softmax(buffer_of(scores), rows);
      scores = operand(scores, compute);
      y.select(0, sample).select(1, head).copy_(at::mm(scores, values));
    }
  }
  return y.view({samples, count, options.heads * width});
}

at::Tensor pack_rotated(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                        const at::Tensor& positions, const AttentionOptions& options,
                        double theta) {
  return PackRotatedFunction::apply(queries.contiguous(), keys.contiguous(), values,
                                    dense(positions), options.head_width, theta);
}

}  // namespace trireme
