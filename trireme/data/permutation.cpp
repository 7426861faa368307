#include "trireme/data/permutation.h"

#include <fmt/format.h>

#include <bit>

#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme {

namespace {

// The finalizer of MurmurHash3 with the key added at both ends: every bit of `half` and `key`
// changes about half of the bits.
std::uint64_t scramble(std::uint64_t half, std::uint64_t key) {
  std::uint64_t x = (half ^ key) * 0xFF51AFD7ED558CCD;
  x = (x ^ (x >> 33)) + key;
  x *= 0xC4CEB9FE1A85EC53;
  return x ^ (x >> 33);
}

}  // namespace

Permutation::Permutation(std::int64_t size, std::uint64_t seed, std::uint64_t epoch) : size_(size) {
  if (size < 0 || size > std::int64_t{1} << 62) {
    throw UsageError(fmt::format("permutation: size must be between 0 and 2^62, got {}", size));
  }
  const int bits = size > 1 ? std::bit_width(static_cast<std::uint64_t>(size - 1)) : 0;
  low_bits_ = (bits + 1) / 2;
  low_mask_ = (std::uint64_t{1} << low_bits_) - 1;
  high_mask_ = (std::uint64_t{1} << (bits - low_bits_)) - 1;
  const CounterRandom random(mix_seed(seed, epoch));
  // In a tiny domain eight rounds leave walks a bias of some per cent (chi-square over seeds).
  rounds_ = bits < 8 ? kMostRounds : 8;
  for (int i = 0; i < rounds_; ++i) keys_[i] = random.bits(static_cast<std::uint64_t>(i));
}

// Rounds change one half by the other, in turn, so that the halves need not be equally wide.
std::uint64_t Permutation::forward(std::uint64_t x) const {
  std::uint64_t low = x & low_mask_, high = x >> low_bits_;
  for (int i = 0; i < rounds_; i += 2) {
    low ^= scramble(high, keys_[i]) & low_mask_;
    high ^= scramble(low, keys_[i + 1]) & high_mask_;
  }
  return high << low_bits_ | low;
}

std::uint64_t Permutation::backward(std::uint64_t x) const {
  std::uint64_t low = x & low_mask_, high = x >> low_bits_;
  for (int i = rounds_; i > 0; i -= 2) {
    high ^= scramble(low, keys_[i - 1]) & high_mask_;
    low ^= scramble(high, keys_[i - 2]) & low_mask_;
  }
  return high << low_bits_ | low;
}

// The domain is less than twice the size: a walk takes less than two steps on average.
std::int64_t Permutation::operator[](std::int64_t position) const {
  auto x = static_cast<std::uint64_t>(position);
  do {
    x = forward(x);
  } while (x >= static_cast<std::uint64_t>(size_));
  return static_cast<std::int64_t>(x);
}

std::int64_t Permutation::position(std::int64_t index) const {
  auto x = static_cast<std::uint64_t>(index);
  do {
    x = backward(x);
  } while (x >= static_cast<std::uint64_t>(size_));
  return static_cast<std::int64_t>(x);
}

}  // namespace trireme
