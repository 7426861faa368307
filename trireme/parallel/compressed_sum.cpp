#include "trireme/parallel/compressed_sum.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/hash.h"

namespace trireme {

namespace {

void copy(const Buffer& to, const Buffer& from) {
  if (to.count > 0) std::memcpy(to.data, from.data, to.bytes());
}

}  // namespace

CompressedSum::CompressedSum(Communicator& world, const CompressionOptions& options,
                             std::vector<Tensor> tensors)
    : world_(world), tensors_(std::move(tensors)) {
  check(options);
  if (options.codec == "power_sgd") {
    low_rank_.emplace(world, options, tensors_);
    return;
  }
  std::size_t bytes = 0;
  for (const Tensor& tensor : tensors_) {
    compressors_.emplace_back(options, tensor.shape, Range{0, elements_of(tensor.shape)},
                              fnv1a(tensor.name));
    offsets_.push_back(bytes);
    bytes += compressors_.back().bytes();
  }
  offsets_.push_back(bytes);
  own_.resize(bytes);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const Buffer part =
        compressors_[i].summable(std::span(own_).subspan(offsets_[i], compressors_[i].bytes()));
    sum_offsets_.push_back(summed_.count);
    summed_.count += part.count;
    if (part.count > 0) summed_.dtype = part.dtype;
  }
  if (summed_.count > 0) {
    memory_ = world.allocate(summed_.bytes());
    summed_.data = memory_.data();
  } else {
    own_ = {};
    memory_ = world.allocate(static_cast<std::size_t>(world.size()) * bytes);
  }
}

std::span<std::byte> CompressedSum::payload(int rank, std::size_t tensor) const {
  const std::size_t before = summed_.count > 0 ? 0 : static_cast<std::size_t>(rank) * bytes();
  std::byte* const payloads = summed_.count > 0 ? const_cast<std::byte*>(own_.data())
                                                : static_cast<std::byte*>(memory_.data());
  return {payloads + before + offsets_[tensor], offsets_[tensor + 1] - offsets_[tensor]};
}

Buffer CompressedSum::place_of_sum(std::size_t tensor) const {
  const Buffer part = compressors_[tensor].summable(payload(world_.rank(), tensor));
  return summed_.slice(sum_offsets_[tensor], part.count);
}

Work CompressedSum::start(std::span<const Buffer> values, std::int64_t step) {
  if (low_rank_) return low_rank_->start(values, step);
  for (std::size_t i = 0; i < compressors_.size(); ++i) {
    const auto own = payload(world_.rank(), i);
    compressors_[i].encode(values[i], step, own);
    if (summed_.count > 0) copy(place_of_sum(i), compressors_[i].summable(own));
  }
  if (summed_.count > 0) return world_.all_reduce(summed_);
  const auto size = static_cast<std::int64_t>(bytes());
  const Buffer all{memory_.data(), size * world_.size(), DType::kU8};
  return world_.all_gather(all, all.slice(size * world_.rank(), size));
}

void CompressedSum::finish(std::span<const Buffer> sums) {
  if (low_rank_) return low_rank_->finish(sums);
  for (std::size_t i = 0; i < compressors_.size(); ++i) {
    const std::int64_t count = compressors_[i].count();
    float* sum = sums[i].as<float>();
    if (sums[i].dtype != DType::kF32) {
      narrow_.resize(static_cast<std::size_t>(count));
      sum = narrow_.data();
    }
    std::fill_n(sum, count, 0.f);
    if (summed_.count > 0) {
      // Into a copy: restore_residual() needs what this rank has sent.
      std::vector<std::byte> total(payload(world_.rank(), i).begin(),
                                   payload(world_.rank(), i).end());
      copy(compressors_[i].summable(total), place_of_sum(i));
      decode_add(total, count, sum);
    } else {
      for (int rank = 0; rank < world_.size(); ++rank) decode_add(payload(rank, i), count, sum);
    }
    if (sums[i].dtype != DType::kF32) std::copy_n(sum, count, sums[i].as<double>());
  }
}

void CompressedSum::restore_residual(std::size_t tensor) {
  if (low_rank_) return low_rank_->restore_residual(tensor);
  compressors_[tensor].restore_residual(payload(world_.rank(), tensor));
}

std::vector<StateTensor> CompressedSum::state() {
  if (low_rank_) return low_rank_->state();
  std::vector<StateTensor> state;
  const std::int64_t ranks = world_.size();
  for (std::size_t i = 0; i < compressors_.size(); ++i) {
    const Buffer residual = compressors_[i].residual();
    if (residual.count == 0) continue;
    state.push_back({.name = fmt::format("compression.residual.of_{}.{}", ranks, tensors_[i].name),
                     .region = row_of(world_.rank(), ranks, residual.count),
                     .values = residual});
  }
  return state;
}

}  // namespace trireme
