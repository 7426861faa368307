#include "examples/matrix_factorization/factorization.h"

#include <algorithm>
#include <numbers>
#include <numeric>
#include <random>

#include "trireme/server/embedded/embedded.h"

namespace trireme::examples {

namespace {

using server::Gradient;
using server::TableValues;
using Keys = std::vector<std::uint64_t>;

std::uint64_t largest(const Ratings& ratings, std::uint64_t Rating::*whose) {
  std::uint64_t largest = 0;
  for (const auto* part : {&ratings.train, &ratings.held_out}) {
    for (const Rating& rating : *part) largest = std::max(largest, rating.*whose);
  }
  return largest;
}

// Returns the number of ratings of each student, or lecturer.
std::vector<double> counts(const Ratings& ratings, std::uint64_t Rating::*whose) {
  std::vector<double> count(largest(ratings, whose) + 1);
  for (const Rating& rating : ratings.train) ++count[rating.*whose];
  return count;
}

server::ModelSchema declaration(const FactorizationOptions& options) {
  server::ModelSchema model{.consistency = options.consistency};
  for (const char* name : {"students", "lecturers"}) {
    // Factors that begin at zero would stay zero.
    model.sparse.push_back({.name = name,
                            .width = 1 + options.factors,
                            .init = {.kind = server::RowInit::Kind::kNormal,
                                     .scale = options.factors == 0 ? 0.0 : 0.1,
                                     .seed = model.sparse.size()},
                            .optimizer = {.name = "adagrad"}});
  }
  return model;
}

double product(const float* student, const float* lecturer, std::int64_t width) {
  double sum = static_cast<double>(student[0]) + lecturer[0];
  for (std::int64_t i = 1; i < width; ++i) sum += static_cast<double>(student[i]) * lecturer[i];
  return sum;
}

// Trains one rank's batches: pulls rows and pushes gradients.
class Worker {
 public:
  Worker(server::Client& client, const Ratings& ratings, double mean,
         const FactorizationOptions& options)
      : client_(client),
        options_(options),
        width_(1 + options.factors),
        mean_(mean),
        of_student_(counts(ratings, &Rating::student)),
        of_lecturer_(counts(ratings, &Rating::lecturer)) {}

  void learn(std::span<const Rating> batch, double lr) {
    students_.keys.clear();
    lecturers_.keys.clear();
    for (const Rating& rating : batch) {
      students_.keys.push_back(rating.student);
      lecturers_.keys.push_back(rating.lecturer);
    }
    for (Rows* rows : {&students_, &lecturers_}) {
      rows->values.resize(batch.size() * static_cast<std::size_t>(width_));
      rows->gradients.resize(rows->values.size());
    }
    client_.pull(std::vector<TableValues>{
        {"students", buffer_of(std::span(students_.values)), students_.keys},
        {"lecturers", buffer_of(std::span(lecturers_.values)), lecturers_.keys}});
    for (std::size_t i = 0; i < batch.size(); ++i) differentiate(batch[i], i);
    // The server adds the gradients of rows that occur more than once.
    client_.push(
        std::vector<Gradient>{
            {"students", buffer_of(std::span(students_.gradients)), students_.keys},
            {"lecturers", buffer_of(std::span(lecturers_.gradients)), lecturers_.keys}},
        {.lr = lr});
  }

 private:
  struct Rows {
    Keys keys;
    std::vector<float> values;
    std::vector<float> gradients;
  };

  void differentiate(const Rating& rating, std::size_t at) {
    const std::size_t first = at * static_cast<std::size_t>(width_);
    const float* const student = students_.values.data() + first;
    const float* const lecturer = lecturers_.values.data() + first;
    const double error = mean_ + product(student, lecturer, width_) - rating.value;
    // The penalty of a row is divided among its ratings.
    const double share_of_student = 1 / of_student_[rating.student];
    const double share_of_lecturer = 1 / of_lecturer_[rating.lecturer];
    for (std::int64_t i = 0; i < width_; ++i) {
      const double penalty = i == 0 ? options_.bias_penalty : options_.factor_penalty;
      const double by_student = i == 0 ? 1 : lecturer[i];
      const double by_lecturer = i == 0 ? 1 : student[i];
      students_.gradients[first + static_cast<std::size_t>(i)] =
          static_cast<float>(error * by_student + penalty * share_of_student * student[i]);
      lecturers_.gradients[first + static_cast<std::size_t>(i)] =
          static_cast<float>(error * by_lecturer + penalty * share_of_lecturer * lecturer[i]);
    }
  }

  server::Client& client_;
  const FactorizationOptions& options_;
  std::int64_t width_;
  double mean_;
  std::vector<double> of_student_;
  std::vector<double> of_lecturer_;
  Rows students_;
  Rows lecturers_;
};

// Returns every n-th rating, n being the number of ranks.
std::vector<Rating> share_of(const Ratings& ratings, const Communicator& world) {
  std::vector<Rating> share;
  for (auto i = static_cast<std::size_t>(world.rank()); i < ratings.train.size();
       i += static_cast<std::size_t>(world.size())) {
    share.push_back(ratings.train[i]);
  }
  return share;
}

void train(Communicator& world, server::Client& client, const Ratings& ratings, double mean,
           const FactorizationOptions& options) {
  Worker worker(client, ratings, mean, options);
  std::vector<Rating> share = share_of(ratings, world);
  std::mt19937_64 random(static_cast<std::uint64_t>(world.rank()) + 1);
  const auto batch = static_cast<std::size_t>(options.batch);
  const std::size_t steps = (share.size() + batch - 1) / batch;
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    std::ranges::shuffle(share, random);
    for (std::size_t step = 0; step < steps; ++step) {
      const double done =
          (epoch + static_cast<double>(step) / static_cast<double>(steps)) / options.epochs;
      const std::size_t first = step * batch;
      worker.learn(std::span(share).subspan(first, std::min(batch, share.size() - first)),
                   options.lr * (1 - done));
    }
  }
}

std::vector<float> all_rows(server::Client& client, const char* table, std::uint64_t rows,
                            std::int64_t width) {
  Keys keys(rows + 1);
  std::iota(keys.begin(), keys.end(), 0);
  std::vector<float> values(keys.size() * static_cast<std::size_t>(width));
  client.fetch(std::vector<TableValues>{{table, buffer_of(std::span(values)), keys}});
  return values;
}

}  // namespace

Factorization::Factorization(Communicator& world, const Ratings& ratings,
                             const FactorizationOptions& options)
    : width_(1 + options.factors), mean_(mean_of(ratings.train)) {
  const auto client = server::embedded(world, {.shards = options.shards});
  client->join(declaration(options));
  world.barrier();  // all ranks begin together
  train(world, *client, ratings, mean_, options);
  if (world.rank() > 0) return;  // the destructor of the client leaves the servers
  client->drain();
  students_ = all_rows(*client, "students", largest(ratings, &Rating::student), width_);
  lecturers_ = all_rows(*client, "lecturers", largest(ratings, &Rating::lecturer), width_);
}

double Factorization::predict(const Rating& rating) const {
  const auto width = static_cast<std::size_t>(width_);
  return mean_ + product(students_.data() + rating.student * width,
                         lecturers_.data() + rating.lecturer * width, width_);
}

}  // namespace trireme::examples
