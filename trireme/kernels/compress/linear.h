#pragma once

#include <cstdint>

namespace trireme::compress {

/// sum[i] += factor * values[i]. `values` may lie at any address. Product and sum are rounded
/// apart: the same bits on every instruction set.
void add_scaled(float* sum, const void* values, float factor, std::int64_t count);

/// The sum of x[i] * y[i] in 16 partial sums: the same bits on every instruction set.
float dot(const float* x, const float* y, std::int64_t count);

}  // namespace trireme::compress
