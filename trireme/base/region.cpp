#include "trireme/base/region.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "trireme/base/error.h"

namespace trireme {

namespace {

void require_valid(const Cut& cut, const TensorShape& shape) {
  if (cut.dim < 0 || cut.dim >= std::ssize(shape)) {
    throw UsageError(fmt::format("region: a cut's dimension must be one of the {} of [{}], got {}",
                                 shape.size(), fmt::join(shape, ", "), cut.dim));
  }
  const std::int64_t size = shape[static_cast<std::size_t>(cut.dim)];
  std::int64_t end = 0;
  for (const Range& range : cut.kept) {
    if (range.begin < end || range.end < range.begin || range.end > size) {
      throw UsageError(fmt::format(
          "region: dimension {} of [{}] must be cut into ascending ranges within [0, {}); got [{}, "
          "{}) where {} indices are passed already",
          cut.dim, fmt::join(shape, ", "), size, range.begin, range.end, end));
    }
    end = range.end;
  }
}

// Without empty ranges, and with those joined that touch.
std::vector<Range> joined(const std::vector<Range>& ranges) {
  std::vector<Range> result;
  for (const Range& range : ranges) {
    if (range.size() == 0) continue;
    if (!result.empty() && result.back().end == range.begin) {
      result.back().end = range.end;
    } else {
      result.push_back(range);
    }
  }
  return result;
}

std::int64_t size_of_all(const std::vector<Range>& ranges) {
  std::int64_t size = 0;
  for (const Range& range : ranges) size += range.size();
  return size;
}

}  // namespace

std::int64_t elements_of(std::span<const std::int64_t> shape) {
  const auto refuse = [&] {
    throw UsageError(fmt::format("[{}] is not the shape of a tensor", fmt::join(shape, ", ")));
  };
  std::int64_t count = 1;
  bool is_empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0) refuse();
    is_empty = is_empty || size == 0;
    // Strides must not overflow either, so that a size of 0 excuses nothing.
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(size, 1), &count)) refuse();
  }
  return is_empty ? 0 : count;
}

Region::Region(TensorShape full_shape, std::vector<Cut> cuts)
    : full_shape_(std::move(full_shape)), cuts_(std::move(cuts)) {
  elements_of(full_shape_);
  std::ranges::sort(cuts_, {}, &Cut::dim);
  for (std::size_t i = 0; i < cuts_.size(); ++i) {
    require_valid(cuts_[i], full_shape_);
    if (i > 0 && cuts_[i].dim == cuts_[i - 1].dim) {
      throw UsageError(fmt::format("region: dimension {} of [{}] is cut twice", cuts_[i].dim,
                                   fmt::join(full_shape_, ", ")));
    }
    cuts_[i].kept = joined(cuts_[i].kept);
  }
  std::erase_if(cuts_, [&](const Cut& cut) {
    return size_of_all(cut.kept) == full_shape_[static_cast<std::size_t>(cut.dim)];
  });
  kept_ = elements_of(cut_shape());
  range_ = {0, kept_};
}

Region Region::slice(Range range) const {
  if (range.begin < 0 || range.end < range.begin || range.end > count()) {
    throw UsageError(
        fmt::format("region: a slice must lie in the {} elements of {}{}, got [{}, {})", count(),
                    fmt::join(full_shape_, "x"), to_string(*this), range.begin, range.end));
  }
  Region part = *this;
  part.range_ = {range_.begin + range.begin, range_.begin + range.end};
  return part;
}

Region Region::block_slice(std::int64_t slices, std::int64_t index) const {
  return slice(partition_aligned(count(), slices, index, kBlockElements));
}

TensorShape Region::cut_shape() const {
  TensorShape shape = full_shape_;
  for (const Cut& cut : cuts_) {
    shape[static_cast<std::size_t>(cut.dim)] = size_of_all(cut.kept);
  }
  return shape;
}

TensorShape Region::local_shape() const {
  return is_slice() ? TensorShape{count()} : cut_shape();
}

Region row_of(std::int64_t row, std::int64_t rows, std::int64_t columns) {
  return Region({rows, columns}).slice({row * columns, (row + 1) * columns});
}

bool comes_before(const Region& a, const Region& b) {
  const auto range_before = [](const Range& x, const Range& y) {
    return std::pair(x.begin, x.end) < std::pair(y.begin, y.end);
  };
  const auto cut_before = [&](const Cut& x, const Cut& y) {
    if (x.dim != y.dim) return x.dim < y.dim;
    return std::ranges::lexicographical_compare(x.kept, y.kept, range_before);
  };
  if (a.cuts() == b.cuts()) return range_before(a.range(), b.range());
  return std::ranges::lexicographical_compare(a.cuts(), b.cuts(), cut_before);
}

std::string to_string(const Region& region) {
  std::string text;
  if (!region.cuts().empty()) {
    std::vector<std::string> dims(region.full_shape().size(), ":");
    for (const Cut& cut : region.cuts()) {
      std::vector<std::string> ranges;
      for (const Range& r : cut.kept) ranges.push_back(fmt::format("{}:{}", r.begin, r.end));
      dims[static_cast<std::size_t>(cut.dim)] =
          ranges.empty() ? "0:0" : fmt::format("{}", fmt::join(ranges, "+"));
    }
    text = fmt::format("[{}]", fmt::join(dims, ", "));
  }
  if (!region.is_slice()) return text;
  return fmt::format("{}[{}:{}]", text, region.range().begin, region.range().end);
}

}  // namespace trireme
