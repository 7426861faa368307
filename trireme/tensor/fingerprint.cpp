#include "trireme/tensor/fingerprint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "trireme/base/hash.h"

namespace trireme {

namespace {

constexpr std::uint64_t kPrime = 0x100000001B3;

std::uint64_t add_bytes(const char* bytes, std::size_t count, std::uint64_t hash) {
  for (; count > 0;) {
    std::uint64_t word = 0;
    const std::size_t size = std::min(count, sizeof(word));
    std::memcpy(&word, bytes, size);
    hash = (hash ^ word) * kPrime;
    hash ^= hash >> 32;
    bytes += size;
    count -= size;
  }
  return hash;
}

}  // namespace

double fingerprint_of(std::span<const at::Tensor> tensors) {
  std::uint64_t hash = fnv1a("");
  for (const at::Tensor& tensor : tensors) {
    hash = add_bytes(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes(), hash);
  }
  return 1 + static_cast<double>(hash >> 44);
}

}  // namespace trireme
