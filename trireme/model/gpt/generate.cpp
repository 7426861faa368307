#include "trireme/model/gpt/generate.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme {

namespace {

void check(const GenerateOptions& options) {
  const auto require = [](bool suits, const char* name, const char* wanted, double got) {
    if (suits) return;
    throw UsageError(fmt::format("generate: {} must be {}, got {}", name, wanted, got));
  };
  require(options.tokens >= 0, "tokens", "at least 0", static_cast<double>(options.tokens));
  require(options.temperature >= 0, "temperature", "at least 0", options.temperature);
  require(options.top_k >= 0, "top_k", "at least 0", static_cast<double>(options.top_k));
  require(options.top_p > 0 && options.top_p <= 1, "top_p", "above 0 and at most 1", options.top_p);
}

/// Draws tokens from logits.
class Choice {
 public:
  explicit Choice(const GenerateOptions& options) : options_(options), random_(options.seed) {}

  // logits: [vocabulary] of f64
  std::int64_t next(std::span<const double> logits) {
    const std::uint64_t draw = draws_++;
    if (options_.temperature == 0) {
      return std::max_element(logits.begin(), logits.end()) - logits.begin();
    }
    std::vector<std::size_t> order(logits.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    // The first of equal ones comes first.
    std::ranges::stable_sort(order,
                             [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    if (options_.top_k > 0 && options_.top_k < std::ssize(order)) {
      order.resize(static_cast<std::size_t>(options_.top_k));
    }
    std::vector<double> weights;
    for (const std::size_t token : order) {
      weights.push_back(std::exp((logits[token] - logits[order.front()]) / options_.temperature));
    }
    keep_most_likely(weights);
    double left = random_.uniform(draw) * std::accumulate(weights.begin(), weights.end(), 0.0);
    std::size_t chosen = 0;
    while (chosen + 1 < weights.size() && left >= weights[chosen]) left -= weights[chosen++];
    return static_cast<std::int64_t>(order[chosen]);
  }

 private:
  void keep_most_likely(std::vector<double>& weights) const {
    const double wanted = options_.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      sum += weights[i];
      if (sum >= wanted) return weights.resize(i + 1);
    }
  }

  const GenerateOptions& options_;
  CounterRandom random_;
  std::uint64_t draws_ = 0;
};

/// A model that reads tokens, a few at a time.
class Reader {
 public:
  Reader(Model& model, std::int64_t context) : model_(model), context_(context) { forget(); }
  ~Reader() {
    for (const auto& block : model_.blocks()) block->remember(0);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  bool is_full() const { return read_ == context_; }

  void forget() {
    for (const auto& block : model_.blocks()) block->remember(context_);
    read_ = 0;
  }

  // The logits of what follows the last token.
  std::vector<double> read(std::span<const std::int64_t> tokens) {
    const auto count = static_cast<std::int64_t>(tokens.size());
    const at::Tensor input = at::empty({1, count}, at::kLong);
    std::copy(tokens.begin(), tokens.end(), input.data_ptr<std::int64_t>());
    const at::Tensor positions = at::arange(read_, read_ + count, at::kLong).view({1, count});
    // The last block looks at one token at a time.
    const auto last = std::ssize(model_.blocks()) - 1;
    at::Tensor x = model_.forward(input, {0, last}, positions).narrow(1, count - 1, 1);
    x = model_.forward(x, {last, last + 1}).flatten().to(at::kDouble).contiguous();
    read_ += count;
    const double* const first = x.data_ptr<double>();
    return {first, first + x.numel()};
  }

 private:
  Model& model_;
  std::int64_t context_;
  std::int64_t read_ = 0;
};

}  // namespace

std::vector<std::int64_t> generate(Model& model, std::span<const std::int64_t> prompt,
                                   std::int64_t context, const GenerateOptions& options,
                                   const std::function<bool(std::int64_t)>& on_token) {
  check(options);
  if (prompt.empty()) throw UsageError("generate: the prompt must have at least one token");
  const at::NoGradGuard no_grad;
  model.train(false);
  std::vector<std::int64_t> all(prompt.begin(), prompt.end());
  const auto first_new = static_cast<std::ptrdiff_t>(prompt.size());
  const auto last_tokens = [&](std::int64_t most) {
    return std::span(all).last(static_cast<std::size_t>(std::min(most, std::ssize(all))));
  };
  Reader reader(model, context);
  Choice choice(options);
  std::span<const std::int64_t> unread = last_tokens(context);
  for (std::int64_t i = 0; i < options.tokens; ++i) {
    if (reader.is_full()) {
      reader.forget();
      unread = last_tokens(std::max<std::int64_t>(1, context / 2));
    }
    const std::int64_t token = choice.next(reader.read(unread));
    if (std::ranges::count(options.stop, token) > 0) break;
    all.push_back(token);
    unread = last_tokens(1);
    if (on_token && !on_token(token)) break;
  }
  return {all.begin() + first_new, all.end()};
}

}  // namespace trireme
