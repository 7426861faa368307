#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "trireme/data/dataset.h"
#include "trireme/data/sampler.h"

namespace trireme {

/// What one rank computes in one step: a micro-batch for each of its virtual workers.
struct StepBatches {
  std::int64_t step = 0;
  std::int64_t samples = 0;  ///< of the whole step, over all ranks
  double weight = 0;         ///< of the whole step, over all ranks: see Batch::weight
  /// One for each virtual worker of this rank that has samples.
  std::vector<Batch> batches;
  std::vector<int> virtual_workers;  ///< the virtual worker of each batch
};

struct LoaderOptions {
  /// Steps to read ahead on a thread; 0: read each step in next(). Large steps are read less far
  /// ahead: about 512 KiB, but at least one step. Choose 0 for rows in memory, which are copied
  /// faster than memory moves between cores.
  int prefetch_steps = 64;
};

/// Reads the batches of the virtual workers `workers`, step by step, ahead of training.
///
///     Loader loader(train, *sampler, {0, 4}, {step, last_step});
///     while (auto step = loader.next()) { ... }
///
/// The loader's thread hands over many small steps at once, so that a step of some microseconds
/// does not pay for a thread switch. next() rethrows what the dataset throws on that thread. The
/// dataset and the sampler must outlive the loader. One thread may use it. The constructor throws
/// UsageError if the sampler is of more samples than the dataset, or the workers are not among its
/// own.
class Loader {
 public:
  Loader(const Dataset& dataset, const Sampler& sampler, Range workers, Range steps,
         LoaderOptions options = {});
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Returns the next step; nothing after the last one.
  std::optional<StepBatches> next();

  /// Returns the seconds that the last next() waited for data.
  double last_wait_seconds() const { return last_wait_seconds_; }

 private:
  class Reader;
  class ReadAhead;

  std::unique_ptr<Reader> reader_;
  std::unique_ptr<ReadAhead> ahead_;  // null without a thread; stops before the reader ends
  std::vector<StepBatches> ready_;
  std::size_t taken_ = 0;
  double last_wait_seconds_ = 0;
};

}  // namespace trireme
