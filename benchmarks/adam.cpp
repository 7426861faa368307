// Adam on 50 M parameters in f32: what a step takes, beside the same memory traffic with trivial
// arithmetic (the bound) and beside torch::optim::Adam on one thread. Interleaved rounds, medians.
//
//     bench_adam [parameters] [rounds]
#include <ATen/Parallel.h>
#include <fmt/core.h>
#include <torch/optim/adam.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <vector>

#include "benchmarks/rounds.h"
#include "trireme/base/zeroed_memory.h"
#include "trireme/optim/adam.h"

namespace {

constexpr double kBytesOfAParameter = 28;  // reads g, w, m and v; writes w, m and v

using bench::seconds_of;

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Adam's access pattern: four arrays read, three written, one addition each.
void stream(const float* __restrict g, float* __restrict w, float* __restrict m,
            float* __restrict v, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    w[i] += g[i];
    m[i] += g[i];
    v[i] += g[i];
  }
}

class Array {
 public:
  Array(std::int64_t count, float value)
      : memory_(static_cast<std::size_t>(count) * sizeof(float)) {
    std::fill_n(data(), count, value);
  }
  float* data() const { return reinterpret_cast<float*>(memory_.data()); }

 private:
  trireme::ZeroedMemory memory_;
};

void print_row(const char* name, double seconds, double bound, std::int64_t count) {
  const double gigabytes = kBytesOfAParameter * static_cast<double>(count) / 1e9;
  fmt::print("{:<22} {:>8.1f} ms {:>7.1f} GB/s {:>6.2f} x the bound\n", name, 1e3 * seconds,
             gigabytes / seconds, seconds / bound);
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t count = argc > 1 ? std::atoll(argv[1]) : 50'000'000;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 9;
  at::set_num_threads(1);

  const Array w(count, 1.0f), g(count, 0.01f);
  std::vector<trireme::Shard> shards = {
      {"w", trireme::Region({count}), {w.data(), count, trireme::DType::kF32}, {g.data()}}};
  trireme::Adam ours(shards);

  const Array bound_w(count, 1.0f), bound_m(count, 0.0f), bound_v(count, 0.0f);

  // torch's arrays are torch's own, as a user of it would have them; the gradient is shared.
  torch::Tensor tensor = torch::ones({count}).set_requires_grad(true);
  tensor.mutable_grad() = torch::from_blob(g.data(), {count});
  torch::optim::Adam theirs({tensor});

  std::vector<double> bound_seconds, our_seconds, their_seconds;
  for (int round = -1; round < rounds; ++round) {
    const double bound = seconds_of(
        [&] { stream(g.data(), bound_w.data(), bound_m.data(), bound_v.data(), count); });
    const double ours_took = seconds_of([&] { ours.step(); });
    const double theirs_took = seconds_of([&] { theirs.step(); });
    if (round < 0) continue;  // warm-up
    bound_seconds.push_back(bound);
    our_seconds.push_back(ours_took);
    their_seconds.push_back(theirs_took);
  }

  const double bound = median(bound_seconds);
  fmt::print("Adam on {} parameters, f32, one thread, medians of {} rounds\n", count, rounds);
  print_row("28 bytes a parameter", bound, bound, count);
  print_row("trireme::Adam", median(our_seconds), bound, count);
  print_row("torch::optim::Adam", median(their_seconds), bound, count);
  fmt::print("trireme / bound {:.2f}, torch / trireme {:.2f}\n", median(our_seconds) / bound,
             median(their_seconds) / median(our_seconds));
}
