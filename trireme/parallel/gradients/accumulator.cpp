#include "trireme/parallel/gradients/accumulator.h"

#include <algorithm>
#include <cstring>

#include "trireme/kernels/reduce.h"

namespace trireme {

GradientAccumulator::GradientAccumulator(const BucketLayout& layout, int rank, BucketMemory& memory)
    : layout_(layout),
      rank_(rank),
      memory_(memory),
      next_(layout.slots().size()),
      gradients_(layout.slots().size()),
      missing_(layout.buckets().size()) {}

void GradientAccumulator::begin() {
  std::ranges::fill(next_, 0);
  std::ranges::fill(gradients_, 0);
  for (std::size_t b = 0; b < missing_.size(); ++b) {
    missing_[b] = layout_.buckets()[b].parameters.size();
  }
  if (layout_.program(rank_).steps.empty()) std::ranges::fill(missing_, 0);
}

bool GradientAccumulator::add(std::size_t parameter, int micro_batch, const void* gradient) {
  skip_to(parameter, micro_batch);
  ++gradients_[parameter];
  return fold(parameter, gradient);
}

bool GradientAccumulator::finish(int micro_batch) {
  bool completes = false;
  for (std::size_t p = 0; p < next_.size(); ++p) {
    completes = skip_to(p, micro_batch + 1) || completes;
  }
  return completes;
}

void GradientAccumulator::finish_all() {
  finish(static_cast<int>(layout_.program(rank_).steps.size()) - 1);
}

bool GradientAccumulator::skip_to(std::size_t parameter, int micro_batch) {
  bool completes = false;
  while (next_[parameter] < static_cast<std::size_t>(micro_batch)) {
    completes = fold(parameter, nullptr);
  }
  return completes;
}

bool GradientAccumulator::fold(std::size_t parameter, const void* gradient) {
  const auto& steps = layout_.program(rank_).steps;
  auto [top, merges] = steps[next_[parameter]++];
  void* const memory = memory_.of(layout_.slots()[parameter].bucket);
  const auto row = [&](int index) { return layout_.row(memory, rank_, parameter, index); };
  if (gradient != nullptr && merges > 0) {
    accumulate(row(top - 1), gradient);
    --top;
    --merges;
  } else {
    const Buffer to = row(top);
    gradient ? std::memcpy(to.data, gradient, to.bytes()) : std::memset(to.data, 0, to.bytes());
  }
  for (; merges > 0; --merges, --top) accumulate(row(top - 1), row(top).data);
  return next_[parameter] == steps.size() && --missing_[layout_.slots()[parameter].bucket] == 0;
}

}  // namespace trireme
