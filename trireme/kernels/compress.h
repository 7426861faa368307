#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"

namespace trireme {

/// How values are compressed before they are sent. docs/compression.md has formulas and papers.
struct CompressionOptions {
  std::string codec = "none";  ///< one of compression_codecs()
  double ratio = 0.01;         ///< top_k, random_k: share of the values that is sent
  int rank = 2;                ///< power_sgd: columns of each factor
  std::uint64_t seed = 0;      ///< of random_k's choice and of power_sgd's first factor
};

/// "none", "bf16", "f16", "int8", "top_k", "random_k", "power_sgd", "sign".
std::span<const std::string_view> compression_codecs();

/// Throws UsageError unless the codec is known, 0 < ratio <= 1 and 1 <= rank <= 64.
void check(const CompressionOptions& options);

/// Compresses one tensor, or a slice of it, to a payload in each step, with error feedback (Seide
/// et al. 2014; Karimireddy et al. 2019): residual() keeps what a payload leaves out and adds it to
/// the next step's values, so that it arrives late but is not lost.
///
///     Compressor compressor({.codec = "int8"}, shape, slice, fnv1a(name));
///     std::vector<std::byte> payload(compressor.bytes());
///     compressor.encode(gradient, step, payload);            // here
///     decode_add(payload, slice.size(), sum);                // there
///
/// The payload of a slice can be decoded alone. Codecs that look at more than one value look at the
/// slice only: int8 and sign begin their blocks at its first element, top_k and random_k take their
/// share of it. power_sgd treats a tensor as a matrix of shape[0] rows and compresses the rows that
/// lie wholly in the slice; elements of other rows are sent unchanged. So are all elements of a
/// tensor or slice that two factors would not make smaller, such as a vector.
///
/// A value that is not finite appears in what is decoded, in this step or in a later one.
/// One thread may use a Compressor at a time.
class Compressor {
 public:
  /// `slice`: elements of the flattened tensor. Random choices depend on (options.seed, stream,
  /// step): ranks with equal seeds and streams choose the same elements, tensors with different
  /// streams do not. Throws UsageError if the options are invalid or the slice is not in the
  /// tensor. top_k and random_k need a slice below 2^32 elements.
  Compressor(const CompressionOptions& options, std::span<const std::int64_t> shape, Range slice,
             std::uint64_t stream);
  ~Compressor();
  Compressor(Compressor&&) noexcept;
  Compressor& operator=(Compressor&&) noexcept;

  std::int64_t count() const;

  /// The size of every payload.
  std::size_t bytes() const;

  /// Writes the payload of `values` plus residual() to `payload`, and keeps the rest in residual().
  /// `values`: count() of f32 or f64, which are rounded to f32. `payload`: bytes().
  void encode(const Buffer& values, std::int64_t step, std::span<std::byte> payload);

  /// Returns the part of a payload that ranks with the same random choices may add element by
  /// element; the sum decodes to the sum. It is all values of none, bf16 and f16, the chosen values
  /// of random_k, and empty for other codecs. `payload`: bytes(), of this compressor.
  Buffer summable(std::span<std::byte> payload) const;

  /// Adds what `payload` holds to residual() again: call it after encode() of zeros if no rank
  /// applies the payload.
  void restore_residual(std::span<const std::byte> payload);

  /// The state between steps, all f32. A checkpoint saves it and may write to it. residual():
  /// count() values, or none for a codec that is exact. factor(): Q of power_sgd, [rank, columns of
  /// the matrix], from which the next step starts (Vogels et al. 2019, "warm start"); none for
  /// other codecs.
  Buffer residual();
  Buffer factor();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// sum[i] += factor * decoded[i], for i < count. The payload may be any bytes at any address:
/// throws DataError, before it writes to `sum`, unless it is a payload of exactly `count` values.
/// These may be any f32, NaN included. The bits do not depend on the instruction set.
void decode_add(std::span<const std::byte> payload, std::int64_t count, float* sum,
                float factor = 1);

/// out[i] = decoded[i], for i < count. Throws as decode_add() does.
void decode(std::span<const std::byte> payload, std::int64_t count, float* out);

}  // namespace trireme
