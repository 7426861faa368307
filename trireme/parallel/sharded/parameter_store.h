#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/comm/communicator.h"
#include "trireme/parallel/gradients/bucket_layout.h"
#include "trireme/parallel/gradients/bucket_pieces.h"

namespace trireme {

class Model;

/// Where the parameters of a sharded model lie. Each rank updates its piece of every bucket; the
/// next forward pass on any rank uses the new values.
class ParameterStore {
 public:
  virtual ~ParameterStore() = default;

  /// The values of this rank's piece of a bucket, in which the optimizer works.
  virtual Buffer piece(std::size_t bucket) const = 0;

  /// Collective, after all gradients have been reduced and this rank's pieces updated.
  virtual void publish() = 0;

  /// Called before the first forward pass of a step, and after its last backward pass on this rank.
  /// `has_gradients`: any have come.
  virtual void begin_step() {}
  virtual void end_passes(bool /*has_gradients*/) {}
};

/// What a store is made for. It moves the parameters with set_data(), one after another. What is
/// passed by reference must outlive it.
struct StoredParameters {
  std::vector<at::Tensor> tensors;  ///< as the layout numbers them
  /// Collective over all ranks: the values with which a parameter begins, the same on each. Called
  /// once for each parameter, in order, by the constructor alone.
  std::function<at::Tensor(std::size_t parameter)> initial_values;
  const BucketLayout& layout;
  const BucketPieces& pieces;
  Communicator& ranks;  ///< those among which the parameters are divided: rank r has part r
};

/// Every rank has all parameters; after an update, pieces are all-gathered. ZeRO stages 1 and 2.
std::unique_ptr<ParameterStore> copied_parameters(StoredParameters parameters);

/// The ranks, of one host, share one copy: nothing is gathered. ZeRO stage 3 on a host.
std::unique_ptr<ParameterStore> shared_parameters(StoredParameters parameters);

/// Each rank has its pieces alone. The parameters of a block are all-gathered before its forward
/// and its backward pass and freed afterwards; while one block computes, the next one's are on
/// their way. ZeRO stage 3 between hosts.
///
/// All ranks must make the same sequence of passes: in a step `passes` forward passes through all
/// blocks, each followed by its backward pass, which a rank that has fewer makes up for in
/// end_passes(); outside of steps the same number of forward passes. A parameter that is read while
/// its block does not compute is NaN, and writing to it ends the process. `gathers`: the same
/// ranks, for nothing else.
std::unique_ptr<ParameterStore> gathered_parameters(StoredParameters parameters,
                                                    Communicator& gathers, Model& model,
                                                    int passes);

}  // namespace trireme
