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

/// How values are made smaller before they travel; docs/compression.md has formulas and papers.
struct CompressionOptions {
  std::string codec = "none";  ///< one of compression_codecs()
  double ratio = 0.01;         ///< top_k, random_k: share of the values that travel
  int rank = 2;                ///< power_sgd: columns of each factor
  std::uint64_t seed = 0;      ///< random_k: which travel; power_sgd: where it starts
};

/// "none", "bf16", "f16", "int8", "top_k", "random_k", "power_sgd", "sign".
std::span<const std::string_view> compression_codecs();

/// Throws UsageError unless the codec is known, 0 < ratio <= 1 and 1 <= rank <= 64.
void check(const CompressionOptions& options);

/// Makes payloads of one tensor or slice of it, step after step, with error feedback (Seide et al.
/// 2014; Karimireddy et al. 2019): what a payload leaves out is kept in residual() and added to the
/// next step's values, so that nothing is lost, only late.
///
///     Compressor compressor({.codec = "int8"}, shape, slice, fnv1a(name));
///     std::vector<std::byte> payload(compressor.bytes());
///     compressor.encode(gradient, step, payload);            // here
///     decode_add(payload, slice.size(), sum);                // there
///
/// Any slice has a payload that can be read alone, though codecs that look at more than one value
/// see the slice only: int8 and sign begin their blocks at its first element, top_k and random_k
/// take their share of it. power_sgd sees a tensor as a matrix of shape[0] rows and compresses the
/// whole rows of the slice; elements of rows that are cut travel as they are, and so does all of a
/// tensor or slice that two factors would not make smaller, vectors for one.
///
/// A value that is not finite is not hidden: it is in what is decoded now or in a later step.
/// One thread at a time.
class Compressor {
 public:
  /// `slice`: elements of the flattened tensor. Random choices depend on (options.seed, stream,
  /// step): ranks with the same ones choose alike, tensors with other streams do not. Throws
  /// UsageError if the options are bad or the slice is not one of the tensor; top_k and random_k
  /// are for slices below 2^32 elements.
  Compressor(const CompressionOptions& options, std::span<const std::int64_t> shape, Range slice,
             std::uint64_t stream);
  ~Compressor();
  Compressor(Compressor&&) noexcept;
  Compressor& operator=(Compressor&&) noexcept;

  std::int64_t count() const;

  /// Of every payload.
  std::size_t bytes() const;

  /// `values`: count() of f32 or f64, which are rounded to f32. `payload`: bytes().
  void encode(const Buffer& values, std::int64_t step, std::span<std::byte> payload);

  /// The part of a payload that ranks with the same random choices may add up element by element:
  /// the sum decodes to the sum. All values of none, bf16 and f16, those that random_k has drawn;
  /// empty for the other codecs. `payload`: bytes(), of this compressor.
  Buffer summable(std::span<std::byte> payload) const;

  /// Adds what `payload` holds to residual() again: call it after encode() of zeros if no rank
  /// applies the payload.
  void restore_residual(std::span<const std::byte> payload);

  /// What it remembers from step to step, all f32; for checkpoints, which may write to it.
  /// residual(): count() values, none if nothing is ever left out. factor(): power_sgd's Q, [rank,
  /// columns of the matrix], where the next step starts from (Vogels et al. 2019, "warm start");
  /// none otherwise.
  Buffer residual();
  Buffer factor();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// sum[i] += factor * decoded[i], for i < count. The payload may be any bytes and at any address:
/// throws DataError, before sum is touched, unless it is a whole payload of `count` values. The
/// values may still be any f32, NaN included. The bits do not depend on the instruction set.
void decode_add(std::span<const std::byte> payload, std::int64_t count, float* sum,
                float factor = 1);

/// The same, written to out.
void decode(std::span<const std::byte> payload, std::int64_t count, float* out);

}  // namespace trireme
