#include "trireme/data/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"

namespace trireme {

namespace {

// With a constant size each copy compiles to one load and one store.
template <std::size_t kBytes>
void copy_rows_of(char* out, const char* from, std::span<const std::int64_t> indices,
                  std::int64_t first) {
  for (const std::int64_t i : indices) {
    std::memcpy(out, from + static_cast<std::size_t>(i - first) * kBytes, kBytes);
    out += kBytes;
  }
}

constexpr std::size_t kRowsAhead = 4;

void fetch(const char* row, std::size_t bytes) {
  constexpr std::size_t kLine = 64, kMost = 1024;
  for (std::size_t at = 0; at < std::min(bytes, kMost); at += kLine) __builtin_prefetch(row + at);
}

void copy_rows(char* out, const char* from, std::span<const std::int64_t> indices,
               std::int64_t first, std::size_t bytes) {
  if (bytes == 4) return copy_rows_of<4>(out, from, indices, first);
  if (bytes == 8) return copy_rows_of<8>(out, from, indices, first);
  const auto row = [&](std::size_t k) {
    return from + static_cast<std::size_t>(indices[k] - first) * bytes;
  };
  for (std::size_t k = 0; k < indices.size(); ++k) {
    // Rows in random order are not in the cache, and the hardware does not prefetch them.
    if (k + kRowsAhead < indices.size()) fetch(row(k + kRowsAhead), bytes);
    std::memcpy(out, row(k), bytes);
    out += bytes;
  }
}

}  // namespace

void check_indices(std::span<const std::int64_t> indices, Range local) {
  for (const std::int64_t i : indices) {
    if (!local.contains(i)) {
      throw UsageError(fmt::format("dataset: samples must lie in [{}, {}) here, asked for {}",
                                   local.begin, local.end, i));
    }
  }
}

at::Tensor gather_rows(const at::Tensor& from, std::span<const std::int64_t> indices,
                       std::int64_t first) {
  at::DimVector shape(from.sizes().begin(), from.sizes().end());
  shape[0] = static_cast<std::int64_t>(indices.size());
  at::Tensor out = at::empty(shape, from.options().requires_grad(false));
  const std::size_t rows = static_cast<std::size_t>(from.size(0));
  if (rows == 0 || indices.empty()) return out;
  copy_rows(static_cast<char*>(out.data_ptr()), static_cast<const char*>(from.data_ptr()), indices,
            first, from.nbytes() / rows);
  return out;
}

}  // namespace trireme
