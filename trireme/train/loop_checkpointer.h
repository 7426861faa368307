#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/checkpoint/run_state.h"
#include "trireme/comm/communicator.h"
#include "trireme/optim/optimizer.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// Saves and restores the state of a training loop of your own: parameters, buffers, the state of
/// optimizers and strategies, and what the loop itself wants to know.
///
///     LoopCheckpointer checkpoints("run/checkpoints", *world);
///     checkpoints.add(*strategy, optimizer);
///     std::int64_t step = checkpoints.restore().state.step;    // 0: nothing has been saved yet
///     while (step < 1000) {
///       train(step++);
///       if (step % 100 == 0) checkpoints.save({.step = step});
///     }
///
/// The checkpoints are those of docs/format/checkpoint.md: written as a whole or not at all, and
/// loadable on any number of ranks. A loop has the bits of one that was never stopped if what it
/// computes in a step depends on what is restored and on the number of the step alone.
///
/// One thread may use it. Strategies, optimizers, communicator and `files` must outlive it.
class LoopCheckpointer {
 public:
  /// All ranks must be able to write the same directory; to restore, each host may have a copy.
  LoopCheckpointer(std::filesystem::path directory, Communicator& world,
                   Files& files = real_files());
  ~LoopCheckpointer();
  LoopCheckpointer(const LoopCheckpointer&) = delete;
  LoopCheckpointer& operator=(const LoopCheckpointer&) = delete;

  /// Adds a model after Strategy::attach(). `name`: of the model, if there are several; the tensors
  /// in the checkpoint begin with it: "generator.model.0.weight". Throws UsageError if the name is
  /// taken, and for ranks that are asynchronous, which cannot save together.
  void add(Strategy& strategy, Optimizer& optimizer, const std::string& name = "");
  /// The same with an optimizer of libtorch, whose state is saved as torch::save() writes it, with
  /// the learning rate of each group. Its other options are those that it was made with.
  void add(Strategy& strategy, torch::optim::Optimizer& optimizer, const std::string& name = "");

  struct Restored {
    RunState state;  ///< as it was given to save(); step 0 if there is no checkpoint yet
    /// Newer checkpoints that were not taken, because ranks lack them or because they are damaged:
    /// a sentence each.
    std::vector<std::string> passed_over;
    /// State of strategies that the checkpoint does not hold, which keeps its initial values.
    std::vector<std::string> absent;
  };

  /// Restores what was added from the newest checkpoint that all ranks have and that is whole or,
  /// with `step`, from the one of that step. Collective. Throws as restore_common() and
  /// load_checkpoint() do.
  Restored restore(std::optional<std::int64_t> step = std::nullopt);

  /// Saves what was added and `state`: the steps that are done, and texts and values of the loop's
  /// own. Removes the checkpoints of later steps, and all but the `keep` newest; 0 keeps all.
  /// Collective; to be called between steps, after one that was synchronized. Throws DivergedError
  /// if parameters or state of optimizer and strategy are not finite (of libtorch's optimizers the
  /// state is not looked at), DataError on all ranks if the checkpoint cannot be written: the loop
  /// may then go on.
  void save(const RunState& state, int keep = 2);

 private:
  class Part;

  void add(std::unique_ptr<Part> part);

  std::filesystem::path directory_;
  Communicator& world_;
  Files& files_;
  std::vector<std::unique_ptr<Part>> parts_;
};

}  // namespace trireme
