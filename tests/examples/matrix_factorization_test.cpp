// Ratings of 300 students, factorized through servers, beside the same sum of squares minimized
// here coefficient by coefficient.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>

#include "examples/matrix_factorization/ratings.h"
#include "tests/examples/example_folder.h"

namespace trireme::test {
namespace {

using examples::Rating;
using examples::Ratings;
using testing::Lt;

constexpr int kStudents = 300;
constexpr double kBiasPenalty = 8;
constexpr double kFactorPenalty = 6;

struct Rmse {
  double held_out = 0;
  double train = 0;
};

// Coordinate descent (Yu et al. 2012): each coefficient in turn goes to its minimum, all others
// held; a sweep takes them all.
class Reference {
 public:
  Reference(const Ratings& ratings, int factors) : mean_(mean_of(ratings.train)) {
    for (const Rating& rating : ratings.train) {
      students_[rating.student].ratings.push_back(&rating);
      lecturers_[rating.lecturer].ratings.push_back(&rating);
    }
    double begin = 0.3;
    for (auto* side : {&students_, &lecturers_}) {
      for (auto& [key, one] : *side) {
        one.row.assign(static_cast<std::size_t>(factors) + 1, 0);
        for (int i = 1; i <= factors; ++i) {
          one.row[static_cast<std::size_t>(i)] = begin = -begin * 0.99 + 0.01 * std::sin(begin * i);
        }
      }
    }
    for (int sweep = 0; sweep < 200; ++sweep) {
      minimize(students_, lecturers_, &Rating::lecturer);
      minimize(lecturers_, students_, &Rating::student);
    }
  }

  double predict(const Rating& rating) const {
    double sum = mean_;
    const auto student = students_.find(rating.student);
    const auto lecturer = lecturers_.find(rating.lecturer);
    const bool both = student != students_.end() && lecturer != lecturers_.end();
    if (student != students_.end()) sum += student->second.row[0];
    if (lecturer != lecturers_.end()) sum += lecturer->second.row[0];
    for (std::size_t i = 1; both && i < student->second.row.size(); ++i) {
      sum += student->second.row[i] * lecturer->second.row[i];
    }
    return sum;
  }

 private:
  struct One {
    std::vector<const Rating*> ratings;
    std::vector<double> row;
  };
  using Side = std::map<std::uint64_t, One>;

  void minimize(Side& side, const Side& other, std::uint64_t Rating::*whose) {
    for (auto& [key, one] : side) {
      for (std::size_t i = 0; i < one.row.size(); ++i) {
        double above = 0;
        double below = i == 0 ? kBiasPenalty : kFactorPenalty;
        for (const Rating* rating : one.ratings) {
          const double by = i == 0 ? 1 : other.at(rating->*whose).row[i];
          above += by * (rating->value - predict(*rating) + by * one.row[i]);
          below += by * by;
        }
        one.row[i] = above / below;
      }
    }
  }

  double mean_;
  Side students_;
  Side lecturers_;
};

Rmse rmse_of(const Ratings& ratings, const auto& predict) {
  return {rmse(ratings.held_out, predict), rmse(ratings.train, predict)};
}

class MatrixFactorization : public testing::Test {
 protected:
  std::string on_ranks(int ranks, std::vector<std::string> flags) const {
    std::vector<std::string> command = {"run",
                                        "-n",
                                        std::to_string(ranks),
                                        example_program("matrix_factorization"),
                                        ".cache/data/insteval/Rdata.rdb",
                                        "--students",
                                        std::to_string(kStudents),
                                        "--factors",
                                        "2",
                                        "--epochs",
                                        "200",
                                        "--batch",
                                        "64",
                                        "--bias-penalty",
                                        std::to_string(kBiasPenalty),
                                        "--factor-penalty",
                                        std::to_string(kFactorPenalty)};
    command.insert(command.end(), flags.begin(), flags.end());
    return folder_.trireme(command).out;
  }

  static Rmse reported(const std::string& out, const std::string& what) {
    Rmse read;
    const std::size_t at = out.find(what);
    if (at == std::string::npos ||
        std::sscanf(out.c_str() + at + what.size(), " RMSE %lf of the ratings held out, %lf",
                    &read.held_out, &read.train) != 2) {
      ADD_FAILURE() << "no " << what << " in: " << out;
    }
    return read;
  }

  Ratings ratings() const {
    return examples::read_ratings(folder_ / ".cache/data/insteval/Rdata.rdb", kStudents);
  }

  ExampleFolder folder_;
};

class RanksNotFarApart : public MatrixFactorization {
 protected:
  RanksNotFarApart() {
    const Reference biases(all_, 0);
    const Reference factors(all_, 2);
    alone_ = rmse_of(all_, [&](const Rating& rating) { return biases.predict(rating); });
    both_ = rmse_of(all_, [&](const Rating& rating) { return factors.predict(rating); });
  }

  void expect_the_minimum(int ranks, const std::string& shards) const {
    ASSERT_THAT(all_.held_out.size(), testing::Gt(500u));
    ASSERT_THAT(both_.train, Lt(alone_.train - 0.1)) << "factors have something to learn";
    const std::string out = on_ranks(ranks, {"--staleness", "2", "--shards", shards});
    const Rmse without = reported(out, "biases alone");
    EXPECT_NEAR(without.held_out, alone_.held_out, 0.002) << ranks << " ranks\n" << out;
    EXPECT_NEAR(without.train, alone_.train, 0.002) << ranks << " ranks\n" << out;
    // Not convex: there are minima beside each other.
    const Rmse with = reported(out, "factorisation");
    EXPECT_NEAR(with.held_out, both_.held_out, 0.04) << ranks << " ranks\n" << out;
    EXPECT_NEAR(with.train, both_.train, 0.03) << ranks << " ranks\n" << out;
  }

 private:
  Ratings all_ = ratings();
  Rmse alone_;
  Rmse both_;
};

using SoakRanksNotFarApart = RanksNotFarApart;

TEST_F(RanksNotFarApart, EndWhereCoordinateDescentDoes) {
  expect_the_minimum(3, "2");
}

TEST_F(SoakRanksNotFarApart, EndWhereCoordinateDescentDoes) {
  expect_the_minimum(1, "1");
  expect_the_minimum(2, "3");
  expect_the_minimum(4, "1");
}

// A rank that is much slower than the others pulls the rows to its own share: so much, not more.
TEST_F(MatrixFactorization, RanksThatDoNotWaitLearnToo) {
  const std::string out = on_ranks(3, {});
  const Rmse mean = reported(out, "mean");
  EXPECT_THAT(reported(out, "biases alone").train, Lt(mean.train - 0.05)) << out;
  EXPECT_THAT(reported(out, "factorisation").train, Lt(mean.train - 0.1)) << out;
}

}  // namespace
}  // namespace trireme::test
