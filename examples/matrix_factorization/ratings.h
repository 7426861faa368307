#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace trireme::examples {

/// The rating of one lecturer by one student.
struct Rating {
  std::uint64_t student = 0;
  std::uint64_t lecturer = 0;
  double value = 0;
};

struct Ratings {
  std::vector<Rating> train;
  std::vector<Rating> held_out;  ///< a tenth, chosen by position alone
};

/// InstEval of the R package lme4: 73,421 evaluations of lectures at ETH Zurich, from 1 to 5, by
/// 2,972 students of 1,128 lecturers. With `students` > 0, only the ratings of that many first
/// students. Throws DataError.
Ratings read_ratings(const std::filesystem::path& path, std::uint64_t students = 0);

double mean_of(const std::vector<Rating>& ratings);

/// The root of the mean square of predict(rating) - rating.value.
template <class Predict>
double rmse(const std::vector<Rating>& ratings, Predict predict) {
  double sum = 0;
  for (const Rating& rating : ratings) sum += std::pow(predict(rating) - rating.value, 2);
  return std::sqrt(sum / static_cast<double>(ratings.size()));
}

}  // namespace trireme::examples
