#include "trireme/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/base/text.h"

namespace trireme {

namespace {

using Chunk = std::vector<StepBatches>;

// Three chunks fit into a second-level cache.
constexpr std::size_t kChunkBytes = std::size_t{1} << 18;

std::size_t bytes_of(const StepBatches& step) {
  std::size_t bytes = 0;
  for (const Batch& batch : step.batches) bytes += batch.input.nbytes() + batch.target.nbytes();
  return bytes;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

// Makes one step after the other.
class Loader::Reader {
 public:
  Reader(const Dataset& dataset, const Sampler& sampler, Range workers, Range steps)
      : dataset_(dataset), sampler_(sampler), workers_(workers), steps_(steps) {}

  bool done() const { return steps_.begin >= steps_.end; }

  StepBatches read() {
    StepBatches out{.step = steps_.begin++};
    out.samples = sampler_.count(out.step);
    out.weight = weight_of(out);
    out.batches.reserve(static_cast<std::size_t>(workers_.size()));
    out.virtual_workers.reserve(static_cast<std::size_t>(workers_.size()));
    for (auto worker = static_cast<int>(workers_.begin); worker < workers_.end; ++worker) {
      sampler_.indices(out.step, worker, indices_);
      if (indices_.empty()) continue;
      out.batches.push_back(dataset_.batch(indices_));
      out.virtual_workers.push_back(worker);
    }
    return out;
  }

 private:
  double weight_of(const StepBatches& step) {
    if (dataset_.has_equal_weights()) {
      return static_cast<double>(step.samples) * static_cast<double>(dataset_.target().length);
    }
    double weight = 0;
    for (int worker = 0; worker < sampler_.options().virtual_workers; ++worker) {
      sampler_.indices(step.step, worker, indices_);
      weight += dataset_.weight(indices_);
    }
    return weight;
  }

  const Dataset& dataset_;
  const Sampler& sampler_;
  Range workers_;
  Range steps_;
  std::vector<std::int64_t> indices_;
};

// The thread and the one finished chunk between it and the consumer: while the consumer uses a
// chunk, a second one is finished and a third one is filled.
class Loader::ReadAhead {
 public:
  ReadAhead(Reader& reader, int prefetch_steps)
      : reader_(reader),
        chunk_steps_(static_cast<std::size_t>(std::max(1, prefetch_steps / 2))),
        thread_(start_thread("loader", [this] { run(); })) {}

  ~ReadAhead() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  /// Waits for the next chunk and returns it; an empty one after the last. Throws what the reader
  /// threw.
  Chunk take() {
    std::unique_lock lock(mutex_);
    // Makes the thread hand over what it has instead of filling its chunk.
    is_waiting_ = ready_.empty();
    changed_.wait(lock, [&] { return !ready_.empty() || ended_; });
    is_waiting_ = false;
    if (ready_.empty() && failure_) std::rethrow_exception(failure_);
    Chunk chunk = std::exchange(ready_, {});
    changed_.notify_all();
    return chunk;
  }

 private:
  void run() {
    while (!failure_ && !reader_.done() && hand_over(fill())) {
    }
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  // Steps that were read before a failure are handed over: the error is thrown at its own step.
  Chunk fill() {
    Chunk chunk;
    std::size_t bytes = 0;
    try {
      do {
        chunk.push_back(reader_.read());
        bytes += bytes_of(chunk.back());
      } while (!reader_.done() && chunk.size() < chunk_steps_ && bytes < kChunkBytes &&
               !is_waiting_ && !stopping_);
    } catch (...) {
      failure_ = std::current_exception();
    }
    return chunk;
  }

  // Returns false if the loader is being destroyed.
  bool hand_over(Chunk chunk) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ready_.empty() || stopping_; });
    ready_ = std::move(chunk);
    changed_.notify_all();
    return !stopping_;
  }

  Reader& reader_;
  const std::size_t chunk_steps_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Chunk ready_;
  bool ended_ = false;
  std::exception_ptr failure_;
  std::atomic<bool> is_waiting_ = false;  // both are looked at between steps without the mutex
  std::atomic<bool> stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

Loader::Loader(const Dataset& dataset, const Sampler& sampler, Range workers, Range steps,
               LoaderOptions options)
    : reader_(std::make_unique<Reader>(dataset, sampler, workers, steps)) {
  const SamplerOptions& o = sampler.options();
  if (o.samples > dataset.size()) {
    throw UsageError(
        fmt::format("loader: the sampler must be of at most the {} of the dataset, is "
                    "of {}",
                    counted(dataset.size(), "sample"), o.samples));
  }
  if (workers.begin < 0 || workers.begin > workers.end || workers.end > o.virtual_workers) {
    throw UsageError(fmt::format("loader: virtual workers must lie in [0, {}), got [{}, {})",
                                 o.virtual_workers, workers.begin, workers.end));
  }
  if (steps.begin < 0) {
    throw UsageError(
        fmt::format("loader: steps count from 0, got [{}, {})", steps.begin, steps.end));
  }
  if (options.prefetch_steps > 0) {
    ahead_ = std::make_unique<ReadAhead>(*reader_, options.prefetch_steps);
  }
}

Loader::~Loader() = default;

std::optional<StepBatches> Loader::next() {
  last_wait_seconds_ = 0;
  if (taken_ < ready_.size()) return std::move(ready_[taken_++]);
  const auto begin = std::chrono::steady_clock::now();
  std::optional<StepBatches> step;
  if (ahead_) {
    ready_ = ahead_->take();
    taken_ = 0;
    if (!ready_.empty()) step = std::move(ready_[taken_++]);
  } else if (!reader_->done()) {
    step = reader_->read();
  }
  last_wait_seconds_ = seconds_since(begin);
  return step;
}

}  // namespace trireme
