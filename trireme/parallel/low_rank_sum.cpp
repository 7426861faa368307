#include "trireme/parallel/low_rank_sum.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/hash.h"
#include "trireme/base/random.h"

namespace trireme {

namespace {

const std::byte* bytes_of(const float* values) {
  return reinterpret_cast<const std::byte*>(values);
}

void add(const Buffer& values, std::vector<float>& sum) {
  const auto add_all = [&](const auto* from) {
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<float>(from[i]);
  };
  values.dtype == DType::kF32 ? add_all(values.as<float>()) : add_all(values.as<double>());
}

void write(const std::vector<float>& values, const Buffer& to) {
  if (to.dtype == DType::kF32) {
    std::copy(values.begin(), values.end(), to.as<float>());
  } else {
    std::copy(values.begin(), values.end(), to.as<double>());
  }
}

}  // namespace

LowRankSum::LowRankSum(Communicator& world, const CompressionOptions& options,
                       std::span<const NamedShape> tensors)
    : world_(world), seed_(options.seed) {
  for (const auto& [name, shape] : tensors) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    Part part{.name = name,
              .stream = fnv1a(name),
              .layout = compress::LowRank::of(shape, {0, count}, options.rank),
              .residual = std::vector<float>(static_cast<std::size_t>(count)),
              .first = first_count_,
              .second = second_count_};
    const compress::LowRank& layout = part.layout;
    part.q.resize(static_cast<std::size_t>(layout.rank * layout.columns));
    part.own_q.resize(part.q.size());
    for (std::int64_t j = 0; j < layout.rank; ++j) {
      layout.draw(part.q.data(), j, seed_of(part, -1));
    }
    first_count_ += part.is_matrix() ? layout.rank * layout.rows : count;
    second_count_ += layout.rank * layout.columns;
    parts_.push_back(std::move(part));
  }
  first_ = world.allocate(static_cast<std::size_t>(first_count_) * sizeof(float));
  second_ = world.allocate(static_cast<std::size_t>(second_count_) * sizeof(float));
}

std::uint64_t LowRankSum::seed_of(const Part& part, std::int64_t step) const {
  return mix_seed(seed_, part.stream, static_cast<std::uint64_t>(step));
}

Work LowRankSum::start(std::span<const Buffer> values, std::int64_t step) {
  step_ = step;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    add(values[i], part.residual);
    if (part.is_matrix()) {
      part.layout.project(part.residual.data(), part.q.data(), first(part));
    } else {
      std::copy(part.residual.begin(), part.residual.end(), first(part));
      std::fill(part.residual.begin(), part.residual.end(), 0.f);
    }
  }
  return world_.all_reduce({first_.data(), first_count_, DType::kF32});
}

void LowRankSum::finish(std::span<const Buffer> sums) {
  std::vector<std::vector<std::int64_t>> spanned;
  for (Part& part : parts_) {
    spanned.push_back(part.layout.orthonormalize(first(part)));
    part.layout.project_back(part.residual.data(), first(part), part.own_q.data());
    part.layout.add_product(bytes_of(first(part)), bytes_of(part.own_q.data()),
                            part.residual.data(), -1);
    std::copy(part.own_q.begin(), part.own_q.end(), second(part));
  }
  if (second_count_ > 0) {
    world_.all_reduce({second_.data(), second_count_, DType::kF32}).wait();
  }
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    std::vector<float> sum(part.residual.size());
    if (part.is_matrix()) {
      part.layout.add_product(bytes_of(first(part)), bytes_of(second(part)), sum.data(), 1);
    } else {
      std::copy_n(first(part), sum.size(), sum.begin());
    }
    write(sum, sums[i]);
    std::copy_n(second(part), part.q.size(), part.q.begin());
    for (const std::int64_t j : spanned[i]) {
      part.layout.draw(part.q.data(), j, seed_of(part, step_));
    }
  }
}

void LowRankSum::restore_residual(std::size_t tensor) {
  Part& part = parts_[tensor];
  part.layout.add_product(bytes_of(first(part)), bytes_of(part.own_q.data()), part.residual.data(),
                          1);
}

std::vector<StateTensor> LowRankSum::state() {
  std::vector<StateTensor> state;
  const std::int64_t ranks = world_.size();
  for (Part& part : parts_) {
    if (!part.is_matrix()) continue;
    const Buffer residual = buffer_of(std::span(part.residual));
    state.push_back({.name = fmt::format("compression.residual.of_{}.{}", ranks, part.name),
                     .region = row_of(world_.rank(), ranks, residual.count),
                     .values = residual});
    state.push_back({.name = fmt::format("compression.factor_{}.{}", part.layout.rank, part.name),
                     .region = Region({part.layout.rank, part.layout.columns}),
                     .values = buffer_of(std::span(part.q)),
                     .is_written = world_.rank() == 0});
  }
  return state;
}

}  // namespace trireme
