#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trireme/formats/plot.h"
#include "trireme/plan/learning_rate.h"

namespace trireme::cli {

/// What a learning-rate range test has found.
struct FoundLearningRate {
  plan::LearningRateRange range;
  std::vector<plan::LossCurve> repeats;
  plan::LearningRateSuggestion suggestion;
};

/// Training steps that were made.
std::int64_t steps_of(const FoundLearningRate& found);

/// The curves, their smoothed mean, the suggestion and the edge of divergence.
Plot plot_of(const FoundLearningRate& found);

/// "optimizer.lr = 0.1: the loss falls fastest there, ...", or why there is none.
std::string sentence_of(const plan::LearningRateSuggestion& suggestion);

nlohmann::ordered_json json_of(const FoundLearningRate& found);

}  // namespace trireme::cli
