#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "trireme/model/model.h"

namespace trireme {

/// How the next token is chosen from the model's probabilities.
struct GenerateOptions {
  std::int64_t tokens = 100;  ///< the most that are generated
  double temperature = 1;     ///< of the softmax; 0: always the most likely token
  std::int64_t top_k = 0;     ///< the token is one of the top_k most likely ones; 0: any
  double top_p = 1;  ///< only among the fewest tokens whose probabilities add up to this (Holtzman
                     ///< et al. 2020)
  std::uint64_t seed = 0;
  std::vector<std::int64_t> stop;  ///< ends before one of these tokens
};

/// Continues `prompt`, which must not be empty, with a model of tokens that reads up to `context`
/// of them at once: when they are full, it goes on from their last half. `on_token` is given each
/// token and returns false to end. Returns all new tokens. The model is in evaluation mode
/// afterwards.
///
/// A function of the model's values, the prompt and the options alone. Throws UsageError for a
/// token that the model does not know and for options that are impossible.
std::vector<std::int64_t> generate(Model& model, std::span<const std::int64_t> prompt,
                                   std::int64_t context, const GenerateOptions& options,
                                   const std::function<bool(std::int64_t)>& on_token = {});

}  // namespace trireme
