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
  /// Steps to read ahead on a thread; 0: read each when it is asked for. Fewer are where a step is
  /// large: about 512 KiB are kept ready, and one step at least.
  /// Rows in memory are copied faster than memory is passed between threads: 0 is then the choice.
  int prefetch_steps = 64;
};

/// Reads the batches of the virtual workers `workers`, step after step, ahead of training.
///
///     Loader loader(train, *sampler, {0, 4}, {step, last_step});
///     while (auto step = loader.next()) { ... }
///
/// The loader's thread hands over many small steps at once, so that a step of some microseconds
/// does not pay for a change of threads. What the dataset throws there comes out of next(). The
/// dataset and the sampler must outlive the loader. One thread may use it.
class Loader {
 public:
  Loader(const Dataset& dataset, const Sampler& sampler, Range workers, Range steps,
         LoaderOptions options = {});
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next step; nothing after the last.
  std::optional<StepBatches> next();

  /// How long the last next() waited for data: what reading ahead could not hide.
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
