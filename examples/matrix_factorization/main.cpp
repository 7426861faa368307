// Matrix factorization on ratings: rows of two sparse tables on parameter servers, of which each
// rank pulls and pushes those that its batch has. Without libtorch.
//
//   scripts/fetch-data.sh insteval
//   build/release/trireme run -n 3 build/release/examples/matrix_factorization
//       .cache/data/insteval/Rdata.rdb [--factors 4] [--epochs 60] [--batch 128] [--lr 0.15]
//       [--bias-penalty 8] [--factor-penalty 18] [--shards 1] [--staleness N] [--students N]
//
// No rank waits for another. With --staleness N no rank is more than N batches ahead of another, so
// that a rank that is much later cannot pull the rows towards its own part of the ratings. Result:
// RMSE 1.34 by the mean, 1.20 by biases alone; four factors reduce it by 0.001. The rating depends
// on little more than the student and the lecturer.
#include <cstdio>
#include <exception>

#include "examples/matrix_factorization/factorization.h"
#include "examples/program.h"

using namespace trireme;
using namespace trireme::examples;

namespace {

void report(const char* what, const Ratings& ratings, auto predict) {
  std::printf("%-16s RMSE %.4f of the ratings held out, %.4f of those trained on\n", what,
              rmse(ratings.held_out, predict), rmse(ratings.train, predict));
}

void run(int argc, char** argv) {
  const auto world = join();
  Flags flags(argc, argv);
  FactorizationOptions options;
  options.factors = static_cast<int>(flags.take("--factors", options.factors));
  options.epochs = static_cast<int>(flags.take("--epochs", options.epochs, 1));
  options.batch = static_cast<int>(flags.take("--batch", options.batch, 1));
  options.lr = flags.take("--lr", options.lr);
  options.bias_penalty = flags.take("--bias-penalty", options.bias_penalty);
  options.factor_penalty = flags.take("--factor-penalty", options.factor_penalty);
  options.shards = static_cast<int>(flags.take("--shards", options.shards, 1));
  options.consistency = take_consistency(flags, world->size());
  const auto students = static_cast<std::uint64_t>(flags.take("--students", 0));
  if (flags.rest().size() != 1) {
    throw UsageError("matrix_factorization: wanted the file of ratings and flags, got " +
                     std::to_string(flags.rest().size()) + " words that are no flags");
  }

  const Ratings ratings = read_ratings(flags.rest()[0], students);
  FactorizationOptions biases = options;
  biases.factors = 0;
  const Factorization without(*world, ratings, biases);
  const Factorization with(*world, ratings, options);
  if (world->rank() > 0) return;
  std::printf("%zu ratings, %zu held out; %d ranks, %d shards, %d factors\n", ratings.train.size(),
              ratings.held_out.size(), world->size(), options.shards, options.factors);
  const double mean = mean_of(ratings.train);
  report("mean", ratings, [&](const Rating&) { return mean; });
  report("biases alone", ratings, [&](const Rating& rating) { return without.predict(rating); });
  report("factorisation", ratings, [&](const Rating& rating) { return with.predict(rating); });
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
