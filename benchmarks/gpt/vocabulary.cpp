// The loss of a vocabulary, forward and backward, in chunks of tokens beside that of all logits at
// once (libtorch's linear and cross_entropy_loss), on one thread. Interleaved rounds, medians and
// quartiles.
//
//     bench_vocabulary_loss [rounds [tokens width vocabulary]]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/core.h>

#include <cstdlib>

#include "benchmarks/rounds.h"
#include "trireme/data/dataset.h"
#include "trireme/model/gpt/vocabulary_loss.h"

int main(int argc, char** argv) {
  const auto argument = [&](int i, std::int64_t otherwise) {
    return argc > i ? std::atoll(argv[i]) : otherwise;
  };
  const std::int64_t rounds = argument(1, 10), tokens = argument(2, 1024);
  const std::int64_t width = argument(3, 384), vocabulary = argument(4, 50257);
  at::set_num_threads(1);
  at::manual_seed(1);
  const at::Tensor hidden = at::randn({1, tokens, width}).requires_grad_(true);
  const at::Tensor weight = at::randn({vocabulary, width}).mul_(0.02).requires_grad_(true);
  const at::Tensor target = at::randint(vocabulary, {1, tokens}, at::kLong);
  const trireme::Loss loss = trireme::make_loss(trireme::Target::tokens(vocabulary, tokens));
  const auto clear = [&] {
    hidden.mutable_grad().reset();
    weight.mutable_grad().reset();
  };

  std::vector<double> chunks, whole, ratio;
  for (std::int64_t round = -1; round < rounds; ++round) {
    clear();
    const double a = bench::seconds_of(
        [&] { trireme::vocabulary_loss(hidden, weight, target, loss).sum.backward(); });
    clear();
    const double b = bench::seconds_of([&] {
      const at::Tensor logits = at::linear(hidden, weight).flatten(0, 1);
      at::cross_entropy_loss(logits, target.flatten(), {}, at::Reduction::Sum).backward();
    });
    if (round < 0) continue;  // the first touches memory
    chunks.push_back(a);
    whole.push_back(b);
    ratio.push_back(a / b);
  }
  bench::print_row("in chunks, ms", chunks, 1e3);
  bench::print_row("all logits at once, ms", whole, 1e3);
  bench::print_row("in chunks / at once", ratio, 1);
}
