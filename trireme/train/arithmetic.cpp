#include "trireme/train/arithmetic.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

#include "trireme/base/buffer.h"
#include "trireme/model/gpt/gpt.h"
#include "trireme/train/components.h"

namespace trireme {

namespace {

// Of this rank, the best of some products.
double measured_flops(const GptShape& shape, at::ScalarType type) {
  constexpr std::int64_t kRows = 512;
  constexpr int kRepeats = 5;
  // A wide model's product takes long enough with fewer columns.
  const std::int64_t columns = std::min<std::int64_t>(shape.mlp_width, 2048);
  const std::int64_t inner = std::min<std::int64_t>(shape.width, 2048);
  const at::Tensor x = at::ones({kRows, inner}, type), weight = at::ones({inner, columns}, type);
  at::Tensor y = at::empty({kRows, columns}, type);
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    at::mm_out(y, x, weight);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, 2.0 * static_cast<double>(kRows * inner * columns) / seconds);
  }
  return best;
}

}  // namespace

void describe_arithmetic(Trainer& trainer, RunDescription& run) {
  const Config& config = trainer.config();
  if (config.model.name != "gpt2" && config.model.name != "llama") return;
  const Dataset& train = *trainer.data().train;
  const GptShape shape = gpt_shape_of(config, train);
  run.flops_per_sample = training_flops_of_token(shape, config.model.name == "llama") *
                         static_cast<double>(train.target().length);
  const auto type = trainer.model().tensors().parameters.front().second.scalar_type();
  trainer.world().barrier();
  std::array<double, 1> flops{measured_flops(shape, type)};
  trainer.world().all_reduce(buffer_of<double>(flops)).wait();
  run.peak_flops = flops[0];
}

}  // namespace trireme
