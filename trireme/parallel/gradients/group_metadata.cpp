#include "trireme/parallel/gradients/group_metadata.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>
#include <utility>

namespace trireme {

namespace {

// The inverse for values of the type of `like`.
at::Tensor tensor_of(const at::Tensor& numbers, const at::Tensor& like) {
  if (like.is_complex()) {
    return at::view_as_complex(numbers.to(at::toRealValueType(like.scalar_type())));
  }
  return (like.is_floating_point() ? numbers : numbers.round()).to(like.scalar_type());
}

}  // namespace

GroupMetadata::GroupMetadata(const std::vector<NamedTensor>& buffers, BufferUpdate update) {
  for (const NamedTensor& buffer : buffers) {
    buffers_.push_back(
        {.watched = WatchedTensor(buffer),
         .first_only = update == BufferUpdate::kFirst || buffer.second.scalar_type() == at::kBool});
  }
  notes_.resize(buffers_.size());
  resize_values();
}

void GroupMetadata::resize_values() {
  std::size_t count = kChanges + buffers_.size();
  for (const Tracked& tracked : buffers_) {
    if (!tracked.is_included) continue;
    count += static_cast<std::size_t>(numbers_of(tracked.watched.remembered()).numel());
  }
  values_.resize(count);
}

void GroupMetadata::begin() {
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    Tracked& tracked = buffers_[b];
    tracked.watched.remember();
    tracked.is_included = tracked.is_included || notes_[b].is_included != 0;
    tracked.has_changed = notes_[b].has_changed != 0;
    if (notes_[b].has_arrived != 0 && !tracked.arrived.defined()) tracked.arrived = tracked.loaded;
    tracked.loaded.reset();
  }
  resize_values();
}

void GroupMetadata::note_changes() {
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    const Tracked& tracked = buffers_[b];
    notes_[b] = {.is_included = tracked.is_included,
                 .has_changed = tracked.changed(),
                 .has_arrived = tracked.arrived.defined()};
  }
}

at::Tensor GroupMetadata::memory_for_arrived(const Tracked& tracked) {
  const at::Tensor& like = tracked.watched.remembered();
  if (tracked.first_only) return at::empty_like(like);
  const at::Tensor numbers = like.is_complex() ? at::view_as_real(like) : like;
  return at::empty(numbers.sizes(), at::kDouble);
}

std::vector<StateTensor> GroupMetadata::state(const RankGroups& groups, const std::string& prefix) {
  std::vector<StateTensor> state;
  if (buffers_.empty()) return state;
  const Buffer notes{notes_.data(), std::ssize(notes_) * 3, DType::kI64};
  state.push_back({.name = prefix + "notes",
                   .region = row_of(groups.index(), groups.count(), notes.count),
                   .values = notes,
                   .is_written = groups.leaders() != nullptr});
  for (Tracked& tracked : buffers_) {
    const bool has_arrived = tracked.arrived.defined();
    if (!has_arrived) tracked.loaded = memory_for_arrived(tracked);
    const Buffer values = bytes_of(has_arrived ? tracked.arrived : tracked.loaded);
    state.push_back({.name = prefix + tracked.watched.name(),
                     .region = Region({values.count}),
                     .values = values,
                     .is_written = has_arrived && groups.index() == 0 && groups.leaders()});
  }
  return state;
}

Work GroupMetadata::start(const RankGroups& groups, bool request_stop, double loss) {
  values_[0] = request_stop ? 1 : 0;
  values_[1] = loss;
  double* at = values_.data() + kChanges + buffers_.size();
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    Tracked& tracked = buffers_[b];
    const bool changed = tracked.changed();
    values_[kChanges + b] = changed ? 1 : 0;
    if (tracked.is_included) {
      const at::Tensor numbers = numbers_of(tracked.watched.tensor());
      std::copy_n(numbers.data_ptr<double>(), numbers.numel(), at);
      at += numbers.numel();
    } else {
      // Unchanged values are still the remembered ones when they are asked for.
      tracked.sent = changed ? tracked.watched.tensor().detach().clone(at::MemoryFormat::Contiguous)
                             : at::Tensor();
    }
  }
  if (groups.weight() != 1) {
    for (double& value : values_) value *= groups.weight();
  }
  return groups.leaders()->all_reduce(buffer_of(std::span(values_)), ReduceOp::kMean);
}

void GroupMetadata::receive(const RankGroups& groups) {
  const at::NoGradGuard no_grad;
  if (groups.inside().size() > 1) {
    groups.inside().broadcast(buffer_of(std::span(values_)), 0).wait();
  }
  const double* at = values_.data() + kChanges + buffers_.size();
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    Tracked& tracked = buffers_[b];
    const double* const included = at;
    if (tracked.is_included) at += numbers_of(tracked.watched.remembered()).numel();
    tracked.arrived = has_changed(b) ? received(groups, tracked, included) : at::Tensor();
  }
}

void GroupMetadata::apply(double alpha) {
  const at::NoGradGuard no_grad;
  bool grows = false;
  for (Tracked& tracked : buffers_) {
    at::Tensor now = std::exchange(tracked.arrived, at::Tensor());
    if (!now.defined()) continue;
    tracked.has_changed = false;
    if (tracked.first_only) {
      tracked.watched.assign(now);
      continue;
    }
    if (alpha > 0) now.mul_(1 - alpha).add_(numbers_of(tracked.watched.tensor()), alpha);
    tracked.watched.assign(tensor_of(now, tracked.watched.remembered()));
    grows = grows || !tracked.is_included;
    tracked.is_included = true;
  }
  if (grows) resize_values();
}

// What the groups have in common of a buffer: its mean in f64, or the first group's values.
at::Tensor GroupMetadata::received(const RankGroups& groups, Tracked& tracked,
                                   const double* in_values) const {
  const at::Tensor& like = tracked.watched.remembered();
  at::Tensor values;
  if (tracked.is_included) {
    values = at::empty_like(numbers_of(like));
    std::copy_n(in_values, values.numel(), values.data_ptr<double>());
    return values;
  }
  const at::Tensor& own = tracked.sent.defined() ? tracked.sent : like;
  values = tracked.first_only ? own.clone() : numbers_of(own).clone();
  const Buffer bytes = bytes_of(values);
  if (Communicator* const leaders = groups.leaders()) {
    if (tracked.first_only) {
      leaders->broadcast(bytes, 0).wait();
    } else {
      if (groups.weight() != 1) values.mul_(groups.weight());
      leaders->all_reduce(buffer_of(values), ReduceOp::kMean).wait();
    }
  }
  if (groups.inside().size() > 1) groups.inside().broadcast(bytes, 0).wait();
  tracked.sent.reset();
  return values;
}

}  // namespace trireme
