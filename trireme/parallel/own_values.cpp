#include "trireme/parallel/own_values.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>

namespace trireme {

OwnValues::OwnValues(const FlatParameters& parameters, const std::vector<NamedTensor>& buffers)
    : parameters_(parameters),
      values_(at::zeros({parameters.size()}, scalar_type_of(parameters.dtype()))),
      is_kept_(1 + buffers.size()) {
  for (const NamedTensor& buffer : buffers) buffers_.emplace_back(buffer);
}

void OwnValues::keep() {
  const at::NoGradGuard no_grad;
  parameters_.read({0, parameters_.size()}, values_);
  for (WatchedTensor& buffer : buffers_) {
    if (buffer.has_changed()) buffer.remember();
  }
  is_kept_[0] = 1;
}

void OwnValues::note(const GroupMetadata& exchanged) {
  for (std::size_t b = 0; b < buffers_.size(); ++b) is_kept_[1 + b] = exchanged.has_changed(b);
}

void OwnValues::bring_back() {
  const at::NoGradGuard no_grad;
  parameters_.write({0, parameters_.size()}, values_);
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    if (is_kept_[1 + b] != 0) buffers_[b].restore();
  }
  std::ranges::fill(is_kept_, 0);
}

std::vector<StateTensor> OwnValues::state(const RankGroups& groups, const std::string& prefix) {
  std::vector<StateTensor> state;
  const bool leads = groups.leaders() != nullptr;
  const auto append = [&](const std::string& name, const Buffer& values, bool is_kept) {
    state.push_back({.name = prefix + name,
                     .region = row_of(groups.index(), groups.count(), values.count),
                     .values = values,
                     .is_written = leads && is_kept});
  };
  append("is_kept", buffer_of(std::span(is_kept_)), /*is_kept=*/true);
  for (const auto& parameter : parameters_.parameters()) {
    const Range range = parameter.range;
    append(parameter.name, host_buffer_of(values_.narrow(0, range.begin, range.size())),
           is_kept_[0] != 0);
  }
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    append(buffers_[b].name(), bytes_of(buffers_[b].remembered()), is_kept_[1 + b] != 0);
  }
  return state;
}

}  // namespace trireme
