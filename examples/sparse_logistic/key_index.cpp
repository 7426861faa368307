#include "examples/sparse_logistic/key_index.h"

namespace trireme::examples {

void KeyIndex::clear() {
  keys_.clear();
  if (++round_ != 0) return;  // except once in 2^32 batches
  places_.assign(places_.size(), {});
  round_ = 1;
}

std::uint32_t KeyIndex::number_of(std::uint64_t key) {
  const std::size_t mask = places_.size() - 1;
  std::size_t at = hash(key) & mask;
  while (places_[at].round == round_) {
    if (keys_[places_[at].number] == key) return places_[at].number;
    at = (at + 1) & mask;
  }
  const auto number = static_cast<std::uint32_t>(keys_.size());
  keys_.push_back(key);
  places_[at] = {round_, number};
  if (2 * keys_.size() > places_.size()) grow();
  return number;
}

void KeyIndex::grow() {
  places_.assign(2 * places_.size(), {});
  const std::size_t mask = places_.size() - 1;
  for (std::uint32_t number = 0; number < keys_.size(); ++number) {
    std::size_t at = hash(keys_[number]) & mask;
    while (places_[at].round == round_) at = (at + 1) & mask;
    places_[at] = {round_, number};
  }
}

}  // namespace trireme::examples
