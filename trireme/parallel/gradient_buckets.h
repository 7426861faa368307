#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/row_program.h"
#include "trireme/parallel/compressed_sum.h"
#include "trireme/parallel/strategy.h"
#include "trireme/tensor/gradient_hook.h"

namespace trireme {

/// The gradients of one step, taken from autograd by hooks as they appear, summed over this rank's
/// virtual workers in tree order, in memory that the other ranks can see.
///
/// Parameters are laid into buckets from the last one to the first, the order in which backward
/// finishes them. With kReduce each bucket is all-reduced as soon as this rank's last backward pass
/// has filled it, while backward goes on, or summed through options.compression, which makes one
/// payload a rank of its virtual workers' part of the mean; with kCollect the rows stay for others
/// to read. Beside
/// the gradients travel, in f64, which parameters had one, the loss, and the change of the model's
/// buffers, whose mean over the virtual workers becomes the new value.
class GradientBuckets {
 public:
  enum class Mode { kReduce, kCollect };

  /// Collective. `model` is kept by reference count; its parameters must be contiguous.
  GradientBuckets(Communicator& world, const NamedTensors& model, const StrategyOptions& options,
                  Mode mode);

  void begin(int backward_passes);
  void add_loss(double loss) { loss_of_pass_ = loss; }
  void raise_flag() { flag_ = true; }

  /// Waits until the gradients of every rank are complete, and reduced with kReduce.
  void finish();

  const ReductionTree& tree() const { return tree_; }
  Range virtual_workers() const { return tree_.leaves_of(world_.rank()); }
  std::size_t parameters() const { return slots_.size(); }
  const std::string& name(std::size_t parameter) const { return slots_[parameter].name; }
  const at::Tensor& parameter(std::size_t parameter) const { return slots_[parameter].tensor; }

  /// Row `row` of the gradient of `parameter` on rank `rank`; null if out of sight.
  Buffer row(int rank, std::size_t parameter, int row) const;

  /// What is remembered from step to step: residuals of the compression.
  std::vector<Strategy::State> state();

  /// After finish(): whether any virtual worker had a gradient for it.
  bool has_gradient(std::size_t parameter) const;
  /// After finish(): the mean over the virtual workers.
  double loss() const;
  /// After finish(): whether any rank has raised its flag since the step before.
  bool flag_raised() const;

 private:
  struct Slot {
    std::string name;
    at::Tensor tensor;
    std::size_t bucket = 0;
    std::int64_t offset = 0;  // in its bucket, elements
  };
  struct Bucket {
    DType dtype = DType::kF32;
    std::int64_t count = 0;                 // elements of one row, padding included
    std::vector<std::size_t> bytes_before;  // of each rank's block
    int missing = 0;                        // gradients that the last pass still owes
    std::vector<std::size_t> slots;
  };

  void lay_out(std::int64_t bucket_bytes);
  void compress(const CompressionOptions& options);
  void on_gradient(std::size_t parameter);
  void end_pass();
  void add(std::size_t parameter, const void* gradient);
  void add_notes();
  void start_complete_buckets();
  void start(std::size_t bucket);
  void start_compressed(std::size_t bucket);
  void finish_compressed();
  std::vector<Buffer> first_rows_of(const Bucket& bucket) const;
  Buffer rows_of(const Bucket& bucket) const;
  void apply_buffer_changes();
  const RowProgram::Leaf& leaf() const { return programs_[world_.rank()].leaves[pass_]; }
  double* notes_row(int row) const {
    return static_cast<double*>(notes_.data()) + row * note_count_;
  }

  Communicator& world_;
  Mode mode_;
  ReductionTree tree_;
  std::vector<RowProgram> programs_;  // of each rank
  std::vector<Slot> slots_;
  std::vector<Bucket> buckets_;
  Memory gradients_;
  Memory
      notes_;  // per row: for each parameter if it has one, loss, passes, flag, changes of buffers
  std::int64_t note_count_ = 0;
  std::vector<CompressedSum> compressed_;  // one a bucket, or none
  std::int64_t step_ = 0;                  // counted for the random choices of codecs
  std::vector<at::Tensor> model_buffers_;
  std::vector<at::Tensor> buffers_before_;

  // The step under way.
  bool begun_ = false;
  int announced_ = 0;
  int pass_ = 0;
  bool in_pass_ = false;
  double loss_of_pass_ = 0;
  bool flag_ = false;
  std::vector<char> seen_;
  std::size_t started_ = 0;
  std::vector<Work> works_;

  std::vector<GradientHook> hooks_;  // last: they go first
};

}  // namespace trireme
