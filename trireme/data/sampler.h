#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "trireme/base/partition.h"

namespace trireme {

struct SamplerOptions {
  std::int64_t samples = 0;       ///< of the dataset
  std::int64_t global_batch = 0;  ///< samples of a step over all virtual workers
  int virtual_workers = 1;
  std::uint64_t seed = 0;
  bool drop_last = false;  ///< skip the samples that do not fill a last step
};

/// Which samples each virtual worker takes in each step. This is a pure function of the step: a
/// resumed run needs the step number alone, and the samples do not depend on the number of ranks.
///
///     auto sampler = random_sampler({.samples = 60000, .global_batch = 64, .virtual_workers = 4});
///     sampler->indices(step, worker, indices);
///
/// An epoch has steps_per_epoch() steps, in which every sample comes exactly once (without
/// drop_last). Nothing is padded: the last step may be smaller, and then only the last virtual
/// workers can have no samples. Any number of threads may use one.
class Sampler {
 public:
  virtual ~Sampler() = default;

  std::int64_t steps_per_epoch() const { return steps_; }
  std::int64_t epoch_of(std::int64_t step) const { return step / steps_; }
  const SamplerOptions& options() const { return options_; }

  /// Replaces `out` by the samples of one virtual worker in step `step` >= 0, in order.
  virtual void indices(std::int64_t step, int virtual_worker,
                       std::vector<std::int64_t>& out) const = 0;

  /// Returns the number of samples of the whole step, over all virtual workers.
  virtual std::int64_t count(std::int64_t step) const = 0;

  /// Returns the samples that these virtual workers may take in any step: all samples, or with the
  /// block sampler their own parts of the data, so that a rank reads nothing else.
  virtual Range rows_of(Range workers) const = 0;

 protected:
  /// Throws UsageError unless there are samples and 1 <= virtual_workers <= global_batch, and with
  /// drop_last samples for one step.
  explicit Sampler(const SamplerOptions& options);

 private:
  SamplerOptions options_;
  std::int64_t steps_;
};

/// A new seeded permutation in each epoch, computed index by index; each step's part of it is cut
/// into contiguous slices, one for each virtual worker.
std::unique_ptr<Sampler> random_sampler(const SamplerOptions& options);

/// In storage order; position p of a step goes to virtual worker p mod V.
std::unique_ptr<Sampler> sequential_sampler(const SamplerOptions& options);

/// Virtual worker w owns part w of the storage order, partition(samples, V, w), and visits it in a
/// new seeded order in each epoch. The parts are spread evenly over the steps: the number of
/// samples of a step differs from global_batch by at most V.
std::unique_ptr<Sampler> block_sampler(const SamplerOptions& options);

/// By name: "random", "sequential" or "block". Throws UsageError for others.
std::unique_ptr<Sampler> make_sampler(std::string_view name, const SamplerOptions& options);

}  // namespace trireme
