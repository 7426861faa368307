#include "trireme/parallel/gradients/reducer.h"

#include <ATen/ATen.h>

#include <cstring>

#include "trireme/kernels/reduce.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

GradientReducer::GradientReducer(Communicator& ranks, const ReductionTree& tree,
                                 const BucketLayout& layout, BucketMemory& memory,
                                 std::span<const NamedShape> tensors,
                                 const CompressionOptions& options)
    : ranks_(ranks), tree_(tree), layout_(layout), memory_(memory) {
  if (options.codec == "none") return;
  for (const BucketLayout::Bucket& bucket : layout_.buckets()) {
    std::vector<NamedShape> together;
    for (const std::size_t p : bucket.parameters) together.push_back(tensors[p]);
    compressed_.emplace_back(ranks, options, std::move(together));
  }
}

void GradientReducer::begin(double divisor) {
  divisor_ = divisor;
  started_ = 0;
  const std::vector<Strategy::State> now = state();
  before_.resize(now.size());
  for (std::size_t i = 0; i < now.size(); ++i) {
    const auto* const bytes = static_cast<const std::byte*>(now[i].values.data);
    before_[i].assign(bytes, bytes + now[i].values.bytes());
  }
}

void GradientReducer::restore_state() {
  const std::vector<Strategy::State> now = state();
  for (std::size_t i = 0; i < now.size(); ++i) {
    std::memcpy(now[i].values.data, before_[i].data(), before_[i].size());
  }
}

void GradientReducer::start_complete(const GradientAccumulator& accumulator) {
  while (started_ < layout_.buckets().size() && accumulator.is_complete(started_)) {
    works_.push_back(compressed_.empty() ? start(started_) : start_compressed(started_));
    ++started_;
  }
}

Work GradientReducer::start(std::size_t bucket) {
  return ranks_.all_reduce(layout_.partial_sums(memory_.of(bucket), ranks_.rank(), bucket), tree_,
                           divisor_);
}

Work GradientReducer::start_compressed(std::size_t bucket) {
  const std::int64_t count = layout_.buckets()[bucket].count;
  const Buffer rows = layout_.partial_sums(memory_.of(bucket), ranks_.rank(), bucket);
  for (std::int64_t row = layout_.program(ranks_.rank()).nodes - 1; row > 0; --row) {
    accumulate(rows.slice((row - 1) * count, count), rows.slice(row * count, 0).data);
  }
  const at::NoGradGuard no_grad;
  tensor_over(rows.slice(0, count), {count}).div_(divisor_);
  return compressed_[bucket].start(first_rows(bucket), step_);
}

Buffer GradientReducer::first_row(std::size_t parameter) const {
  const std::size_t bucket = layout_.slots()[parameter].bucket;
  return layout_.row(memory_.of(bucket), ranks_.rank(), parameter, 0);
}

std::vector<Buffer> GradientReducer::first_rows(std::size_t bucket) const {
  std::vector<Buffer> rows;
  for (const std::size_t p : layout_.buckets()[bucket].parameters) rows.push_back(first_row(p));
  return rows;
}

void GradientReducer::wait() {
  for (Work& work : works_) work.wait();
  works_.clear();
}

void GradientReducer::finish(std::span<const char> used) {
  for (std::size_t b = 0; b < compressed_.size(); ++b) {
    compressed_[b].finish(first_rows(b));
    const auto& parameters = layout_.buckets()[b].parameters;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (!used[parameters[i]]) compressed_[b].restore_residual(i);
    }
  }
  ++step_;
}

std::vector<Strategy::State> GradientReducer::state() {
  std::vector<Strategy::State> state;
  if (compressed_.empty()) return state;
  for (CompressedSum& sum : compressed_) {
    for (Strategy::State& tensor : sum.state()) state.push_back(std::move(tensor));
  }
  // The same on every rank; it does no harm that several write it.
  state.push_back({.name = "compression.step",
                   .region = Region({1}),
                   .values = buffer_of(std::span(&step_, 1))});
  return state;
}

}  // namespace trireme
