#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace trireme::examples {

/// Numbers the different keys of a batch in the order of their first use, so that each key is
/// pulled and pushed once, however often it occurs.
class KeyIndex {
 public:
  /// Removes all keys.
  void clear();

  std::uint32_t number_of(std::uint64_t key);

  const std::vector<std::uint64_t>& keys() const { return keys_; }

 private:
  static std::size_t hash(std::uint64_t key) { return (key * 0x9e3779b97f4a7c15ULL) >> 32; }
  void grow();

  // Open addressing; a place is of this batch if its round is.
  struct Place {
    std::uint32_t round = 0;
    std::uint32_t number = 0;
  };
  std::vector<std::uint64_t> keys_;
  std::vector<Place> places_ = std::vector<Place>(1024);
  std::uint32_t round_ = 1;
};

}  // namespace trireme::examples
