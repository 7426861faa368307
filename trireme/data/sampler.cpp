#include "trireme/data/sampler.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/data/permutation.h"

namespace trireme {

namespace {

std::int64_t checked_steps(const SamplerOptions& o) {
  if (o.samples < 1) {
    throw UsageError(fmt::format("sampler: the dataset must have samples, has {}", o.samples));
  }
  if (o.virtual_workers < 1 || o.global_batch < o.virtual_workers) {
    throw UsageError(
        fmt::format("sampler: the global batch must have at least one sample for each virtual "
                    "worker, got {} for {} virtual workers",
                    o.global_batch, o.virtual_workers));
  }
  const std::int64_t full = o.samples / o.global_batch;
  if (o.drop_last && full == 0) {
    throw UsageError(fmt::format(
        "sampler: with drop_last the dataset must fill a global batch of {}, has {} samples",
        o.global_batch, o.samples));
  }
  return full + (!o.drop_last && o.samples % o.global_batch != 0);
}

// Positions [begin, end) of the epoch that a step takes, where all steps are full but the last.
Range positions_of(std::int64_t step_of_epoch, const SamplerOptions& o) {
  const std::int64_t begin = step_of_epoch * o.global_batch;
  return {begin, begin + std::min(o.global_batch, o.samples - begin)};
}

class RandomSampler final : public Sampler {
 public:
  explicit RandomSampler(const SamplerOptions& o) : Sampler(o) {}

  void indices(std::int64_t step, int worker, std::vector<std::int64_t>& out) const override {
    const SamplerOptions& o = options();
    const Permutation order(o.samples, o.seed, static_cast<std::uint64_t>(epoch_of(step)));
    const Range positions = positions_of(step % steps_per_epoch(), o);
    const Range slice = partition(positions.size(), o.virtual_workers, worker);
    out.resize(static_cast<std::size_t>(slice.size()));
    std::int64_t position = positions.begin + slice.begin;
    for (std::int64_t& index : out) index = order[position++];
  }

  std::int64_t count(std::int64_t step) const override {
    return positions_of(step % steps_per_epoch(), options()).size();
  }

  Range rows_of(Range) const override { return {0, options().samples}; }
};

class SequentialSampler final : public Sampler {
 public:
  explicit SequentialSampler(const SamplerOptions& o) : Sampler(o) {}

  void indices(std::int64_t step, int worker, std::vector<std::int64_t>& out) const override {
    const Range positions = positions_of(step % steps_per_epoch(), options());
    out.clear();
    for (std::int64_t i = positions.begin + worker; i < positions.end;
         i += options().virtual_workers) {
      out.push_back(i);
    }
  }

  std::int64_t count(std::int64_t step) const override {
    return positions_of(step % steps_per_epoch(), options()).size();
  }

  Range rows_of(Range) const override { return {0, options().samples}; }
};

class BlockSampler final : public Sampler {
 public:
  explicit BlockSampler(const SamplerOptions& o) : Sampler(o) {}

  void indices(std::int64_t step, int worker, std::vector<std::int64_t>& out) const override {
    const SamplerOptions& o = options();
    const Range piece = partition(o.samples, o.virtual_workers, worker);
    // One stream of permutations a virtual worker: pieces of the same size must not be shuffled
    // alike.
    const Permutation order(piece.size(), mix_seed(o.seed, static_cast<std::uint64_t>(worker)),
                            static_cast<std::uint64_t>(epoch_of(step)));
    const Range positions = positions_of_worker(step % steps_per_epoch(), worker);
    out.resize(static_cast<std::size_t>(positions.size()));
    std::int64_t position = positions.begin;
    for (std::int64_t& index : out) index = piece.begin + order[position++];
  }

  std::int64_t count(std::int64_t step) const override {
    std::int64_t count = 0;
    for (int worker = 0; worker < options().virtual_workers; ++worker) {
      count += positions_of_worker(step % steps_per_epoch(), worker).size();
    }
    return count;
  }

  Range rows_of(Range workers) const override {
    const SamplerOptions& o = options();
    if (workers.size() == 0) return {0, 0};
    return {partition(o.samples, o.virtual_workers, workers.begin).begin,
            partition(o.samples, o.virtual_workers, workers.end - 1).end};
  }

 private:
  // floor(s * length / steps) to floor((s + 1) * length / steps) of the worker's own order.
  Range positions_of_worker(std::int64_t step_of_epoch, int worker) const {
    const SamplerOptions& o = options();
    const std::int64_t used = o.drop_last ? steps_per_epoch() * o.global_batch : o.samples;
    const std::int64_t length = partition(used, o.virtual_workers, worker).size();
    const auto cut = [&](std::int64_t s) {
      __extension__ using Wide = __int128;
      return static_cast<std::int64_t>(Wide{s} * length / steps_per_epoch());
    };
    return {cut(step_of_epoch), cut(step_of_epoch + 1)};
  }
};

}  // namespace

Sampler::Sampler(const SamplerOptions& options)
    : options_(options), steps_(checked_steps(options)) {}

std::unique_ptr<Sampler> random_sampler(const SamplerOptions& options) {
  return std::make_unique<RandomSampler>(options);
}

std::unique_ptr<Sampler> sequential_sampler(const SamplerOptions& options) {
  return std::make_unique<SequentialSampler>(options);
}

std::unique_ptr<Sampler> block_sampler(const SamplerOptions& options) {
  return std::make_unique<BlockSampler>(options);
}

std::unique_ptr<Sampler> make_sampler(std::string_view name, const SamplerOptions& options) {
  if (name == "random") return random_sampler(options);
  if (name == "sequential") return sequential_sampler(options);
  if (name == "block") return block_sampler(options);
  throw UsageError(
      fmt::format("sampler must be \"random\", \"sequential\" or \"block\", got \"{}\"", name));
}

}  // namespace trireme
