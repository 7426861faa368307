#include "examples/matrix_factorization/ratings.h"

#include <string>

#include "examples/matrix_factorization/r_data.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme::examples {

Ratings read_ratings(const std::filesystem::path& path, std::uint64_t students) {
  const std::vector<std::string> names = {"s", "d", "y"};
  const DataFrame frame = read_data_frame(path, names);
  const CounterRandom random(1);
  Ratings all;
  for (std::size_t i = 0; i < frame.columns[0].size(); ++i) {
    const std::int32_t student = frame.columns[0][i];
    const std::int32_t lecturer = frame.columns[1][i];
    const std::int32_t value = frame.columns[2][i];
    if (student < 1 || lecturer < 1 || value < 1 || value > 5) {
      throw DataError(path.string() + ": row " + std::to_string(i + 1) +
                      " must have a student s, a lecturer d and a rating y from 1 to 5, got " +
                      std::to_string(student) + ", " + std::to_string(lecturer) + " and " +
                      std::to_string(value));
    }
    if (students > 0 && static_cast<std::uint64_t>(student) > students) continue;
    auto& part = random.uniform(i) < 0.1 ? all.held_out : all.train;
    part.push_back({static_cast<std::uint64_t>(student), static_cast<std::uint64_t>(lecturer),
                    static_cast<double>(value)});
  }
  if (all.train.empty() || all.held_out.empty()) {
    throw DataError(path.string() + ": wanted ratings to train on and to hold out, got " +
                    std::to_string(all.train.size()) + " and " +
                    std::to_string(all.held_out.size()));
  }
  return all;
}

double mean_of(const std::vector<Rating>& ratings) {
  double sum = 0;
  for (const Rating& rating : ratings) sum += rating.value;
  return sum / static_cast<double>(ratings.size());
}

}  // namespace trireme::examples
