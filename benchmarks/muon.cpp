// Muon's arithmetic on the matrices of a GPT, f32, one thread: trireme's matrix product beside
// libtorch's, and orthogonalize() beside the same iteration written with libtorch. Interleaved
// rounds, medians and quartiles.
//
//     bench_muon [width] [rounds]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <vector>

#include "benchmarks/rounds.h"
#include "trireme/kernels/matrix_product.h"
#include "trireme/optim/orthogonalize.h"

namespace {

constexpr int kSteps = 5;

using bench::seconds_of;

// The value that `part` of the sorted values do not exceed.
double quantile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1) + 0.5)];
}

trireme::Buffer buffer_over(const at::Tensor& tensor) {
  return {tensor.data_ptr(), tensor.numel(), trireme::DType::kF32};
}

at::Tensor orthogonalize_by_torch(at::Tensor x) {
  const bool is_tall = x.size(0) > x.size(1);
  if (is_tall) x = x.t();
  x = x / (x.norm() + 1e-7);
  for (int step = 0; step < kSteps; ++step) {
    const at::Tensor a = x.mm(x.t());
    x = at::addmm(x, at::addmm(a, a, a, -4.7750, 2.0315), x, 3.4445);
  }
  return is_tall ? x.t() : x;
}

struct Rounds {
  std::vector<double> ours, theirs, ratios;
};

template <class Ours, class Theirs>
Rounds interleave(int rounds, Ours ours, Theirs theirs) {
  Rounds all;
  for (int round = -1; round < rounds; ++round) {
    const double our_seconds = seconds_of(ours);
    const double their_seconds = seconds_of(theirs);
    if (round < 0) continue;  // warm-up
    all.ours.push_back(our_seconds);
    all.theirs.push_back(their_seconds);
    all.ratios.push_back(our_seconds / their_seconds);
  }
  return all;
}

// `operations`: multiplications and additions of the whole products.
void print_row(const std::string& name, double operations, const Rounds& rounds) {
  fmt::print("{:<30} {:>7.1f} {:>7.1f} {:>8.2f} {:>6.2f} {:>6.2f}\n", name,
             operations / quantile(rounds.ours, 0.5) / 1e9,
             operations / quantile(rounds.theirs, 0.5) / 1e9, quantile(rounds.ratios, 0.25),
             quantile(rounds.ratios, 0.5), quantile(rounds.ratios, 0.75));
}

void compare(std::int64_t m, std::int64_t n, int rounds) {
  const at::Tensor a = at::randn({m, m}), x = at::randn({m, n}), out = at::empty({m, n});
  at::Tensor torch_out = at::empty({m, n});
  const auto view = [](const at::Tensor& t) {
    return trireme::row_major(buffer_over(t), t.size(0), t.size(1));
  };
  const Rounds product = interleave(
      rounds, [&] { trireme::matrix_product(view(out), view(a), view(x)); },
      [&] { at::mm_out(torch_out, a, x); });
  const double mm = static_cast<double>(m) * static_cast<double>(m) * static_cast<double>(n);
  print_row(fmt::format("[{0}, {0}] [{0}, {1}]", m, n), 2 * mm, product);

  at::Tensor work = at::empty({m, n});
  std::vector<float> memory(static_cast<std::size_t>(3 * m * n));
  const trireme::Buffer all = trireme::buffer_of(std::span(memory));
  const trireme::Buffer scratch[] = {all.slice(0, m * n), all.slice(m * n, m * n),
                                     all.slice(2 * m * n, m * n)};
  const Rounds iteration = interleave(
      rounds,
      [&] {
        work.copy_(x);
        trireme::orthogonalize(buffer_over(work), m, n, kSteps, scratch);
      },
      [&] { torch_out = orthogonalize_by_torch(x); });
  const double cube = static_cast<double>(m) * static_cast<double>(m) * static_cast<double>(m);
  print_row(fmt::format("orthogonalize [{}, {}]", m, n), kSteps * (4 * mm + 2 * cube), iteration);
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t width = argc > 1 ? std::atoll(argv[1]) : 384;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 11;
  at::set_num_threads(1);
  fmt::print("one thread, f32, {} rounds; GFLOP/s of whole products\n", rounds);
  fmt::print("{:<30} {:>7} {:>7} {:>8} {:>6} {:>6}\n", "", "trireme", "torch", "ratio 25%", "50%",
             "75%");
  for (const std::int64_t times : {1, 3, 4}) compare(width, times * width, rounds);
}
