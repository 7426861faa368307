#include "trireme/parallel/gradients/scatter.h"

#include <cstring>
#include <utility>

namespace trireme {

GradientScatter::GradientScatter(Communicator& ranks, const ReductionTree& tree,
                                 const BucketLayout& layout, BucketMemory& memory,
                                 const GradientParts& parts)
    : ranks_(ranks),
      tree_(tree),
      layout_(layout),
      memory_(memory),
      parts_(parts.parts),
      part_(parts.part),
      in_place_(parts.in_place),
      may_wait_(parts.may_wait),
      pieces_(layout, parts.parts, parts.owners) {
  if (in_place_) return;
  for (std::size_t b = 0; b < layout_.buckets().size(); ++b) {
    const auto count = static_cast<std::size_t>(pieces_.of(b, part_).size());
    sums_.emplace_back(count * size_of(layout_.buckets()[b].dtype));
  }
}

void GradientScatter::begin(double divisor) {
  divisor_ = divisor;
  next_ = 0;
}

// The first row of a bucket on this rank.
Buffer GradientScatter::row(std::size_t bucket) const {
  const BucketLayout::Bucket& one = layout_.buckets()[bucket];
  return {memory_.of(bucket), one.count, one.dtype};
}

Buffer GradientScatter::sum(std::size_t bucket) const {
  const Range piece = pieces_.of(bucket, part_);
  if (in_place_) return row(bucket).slice(piece.begin, piece.size());
  return {sums_[bucket].data(), piece.size(), layout_.buckets()[bucket].dtype};
}

void GradientScatter::make_room(std::size_t bucket) {
  while (!started_.empty() && !memory_.has_room(bucket)) {
    if (!may_wait_ && !started_.front().work.test()) return;
    finish_first();
  }
}

void GradientScatter::start_complete(const GradientAccumulator& accumulator) {
  while (next_ < layout_.buckets().size() && accumulator.is_complete(next_)) start(next_++);
}

void GradientScatter::start(std::size_t bucket) {
  const Buffer rows = layout_.partial_sums(memory_.of(bucket), ranks_.rank(), bucket);
  Work work =
      scatters() ? ranks_.reduce_scatter(sum(bucket), rows, tree_, divisor_, pieces_.counts(bucket))
                 : ranks_.all_reduce(rows, tree_, divisor_);
  started_.push_back({bucket, std::move(work)});
}

void GradientScatter::finish_first() {
  Started first = std::move(started_.front());
  started_.pop_front();
  first.work.wait();
  if (!in_place_ && !scatters()) {
    const Range piece = pieces_.of(first.bucket, part_);
    const Buffer own = row(first.bucket).slice(piece.begin, piece.size());
    if (own.count > 0) std::memcpy(sums_[first.bucket].data(), own.data, own.bytes());
  }
  memory_.release(first.bucket);
}

void GradientScatter::wait() {
  while (!started_.empty()) finish_first();
}

}  // namespace trireme
