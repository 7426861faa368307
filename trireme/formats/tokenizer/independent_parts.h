#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <unordered_set>

#include "trireme/formats/tokenizer/bpe.h"

namespace trireme {

/// Cuts a piece between characters that no merge can join, because no token has them side by side:
/// the tokens of the parts are those of the piece. Without a pre-tokenizer a whole document is one
/// piece; Llama 2's tokens have a blank only at their front, so that each word is a part, and
/// words repeat.
class IndependentParts {
 public:
  explicit IndependentParts(const BpeTables& tables);

  void for_each(std::string_view piece, const std::function<void(std::string_view)>& use) const;

 private:
  void add_neighbors(std::string_view token);

  bool may_cut_ = false;
  std::unordered_set<std::uint64_t> neighbors_;  // characters that some token has side by side
};

}  // namespace trireme
