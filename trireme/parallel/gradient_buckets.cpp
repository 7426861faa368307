#include "trireme/parallel/gradient_buckets.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/kernels/reduce.h"

namespace trireme {

namespace {

constexpr std::int64_t kAlignment = 16;  // elements: 64 bytes of f32

std::int64_t aligned(std::int64_t count) {
  return (count + kAlignment - 1) / kAlignment * kAlignment;
}

// The places of a row of notes behind the parameters' flags.
constexpr std::int64_t kLoss = 0;
constexpr std::int64_t kPasses = 1;
constexpr std::int64_t kFlag = 2;
constexpr std::int64_t kChanges = 3;

}  // namespace

GradientBuckets::GradientBuckets(Communicator& world, const NamedTensors& model,
                                 const StrategyOptions& options, Mode mode)
    : world_(world), mode_(mode), tree_(tree_of(options, world.size())) {
  for (int rank = 0; rank < world.size(); ++rank) programs_.emplace_back(tree_, rank);
  for (const auto& [name, tensor] : model.parameters) {
    if (tensor.requires_grad()) slots_.push_back({name, tensor});
  }
  seen_.resize(slots_.size());
  lay_out(options.bucket_bytes);
  if (mode == Mode::kReduce && options.compression.codec != "none") compress(options.compression);
  note_count_ = static_cast<std::int64_t>(slots_.size()) + kChanges;
  for (const auto& [name, tensor] : model.buffers) {
    model_buffers_.push_back(tensor);
    buffers_before_.push_back(tensor.clone());
    note_count_ += tensor.numel();
  }
  notes_ = world_.allocate(static_cast<std::size_t>(programs_[world_.rank()].rows * note_count_) *
                           sizeof(double));
  for (std::size_t p = 0; p < slots_.size(); ++p) {
    hooks_.emplace_back(slots_[p].tensor, [this, p] { on_gradient(p); });
  }
}

void GradientBuckets::lay_out(std::int64_t bucket_bytes) {
  for (std::size_t p = slots_.size(); p-- > 0;) {
    Slot& slot = slots_[p];
    const DType dtype = dtype_of(slot.tensor.scalar_type());
    const auto bytes = slot.tensor.numel() * static_cast<std::int64_t>(size_of(dtype));
    const bool fits =
        !buckets_.empty() && buckets_.back().dtype == dtype &&
        buckets_.back().count * static_cast<std::int64_t>(size_of(dtype)) + bytes <= bucket_bytes;
    if (!fits) buckets_.push_back({.dtype = dtype});
    Bucket& bucket = buckets_.back();
    slot.bucket = buckets_.size() - 1;
    slot.offset = bucket.count;
    bucket.count += aligned(slot.tensor.numel());
    bucket.slots.push_back(p);
  }
  std::vector<std::size_t> bytes(world_.size(), 0);
  for (Bucket& bucket : buckets_) {
    bucket.bytes_before = bytes;
    for (int rank = 0; rank < world_.size(); ++rank) {
      bytes[rank] +=
          static_cast<std::size_t>(programs_[rank].rows * bucket.count) * size_of(bucket.dtype);
    }
  }
  gradients_ = world_.allocate(bytes[world_.rank()]);
}

void GradientBuckets::compress(const CompressionOptions& options) {
  for (const Bucket& bucket : buckets_) {
    std::vector<CompressedSum::Tensor> tensors;
    for (const std::size_t p : bucket.slots) {
      tensors.push_back({slots_[p].name, slots_[p].tensor.sizes().vec()});
    }
    compressed_.emplace_back(world_, options, std::move(tensors));
  }
}

Buffer GradientBuckets::row(int rank, std::size_t parameter, int row) const {
  const Slot& slot = slots_[parameter];
  const Bucket& bucket = buckets_[slot.bucket];
  char* block = static_cast<char*>(gradients_.peer(rank));
  if (block == nullptr) return {nullptr, slot.tensor.numel(), bucket.dtype};
  const Buffer all{block + bucket.bytes_before[rank], programs_[rank].rows * bucket.count,
                   bucket.dtype};
  return all.slice(row * bucket.count + slot.offset, slot.tensor.numel());
}

void GradientBuckets::begin(int backward_passes) {
  const auto most = static_cast<int>(virtual_workers().size());
  if (begun_) {
    throw UsageError("strategy: begin() was called twice without reduce_gradients() between");
  }
  if (backward_passes < 0 || backward_passes > most) {
    throw UsageError(fmt::format(
        "strategy: begin({}) announces more backward passes than this rank's {} virtual workers "
        "(rank {} of {})",
        backward_passes, most, world_.rank(), world_.size()));
  }
  begun_ = true;
  announced_ = backward_passes;
  pass_ = 0;
  in_pass_ = false;
  started_ = 0;
  loss_of_pass_ = 0;
  for (Slot& slot : slots_) slot.tensor.mutable_grad().reset();
  for (Bucket& bucket : buckets_) bucket.missing = static_cast<int>(bucket.slots.size());
  for (std::size_t i = 0; i < model_buffers_.size(); ++i) {
    buffers_before_[i].copy_(model_buffers_[i]);
  }
}

void GradientBuckets::on_gradient(std::size_t parameter) {
  if (!begun_ || pass_ >= announced_) {
    throw UsageError(fmt::format(
        "strategy: a backward pass came for which begin() was not called (begin({}) and {} passes "
        "so far); call begin(passes) before the step's first forward",
        announced_, pass_));
  }
  if (!in_pass_) {
    in_pass_ = true;
    std::fill(seen_.begin(), seen_.end(), char{0});
    after_this_backward([this] { end_pass(); });
  }
  Slot& slot = slots_[parameter];
  at::Tensor& gradient = slot.tensor.mutable_grad();
  if (gradient.is_sparse()) {
    throw UsageError(fmt::format(
        "strategy: {} has a sparse gradient; all-reduce needs dense ones (sparse=false)",
        slot.name));
  }
  add(parameter, gradient.contiguous().data_ptr());
  // Autograd hands over a fresh gradient next time, which is cheaper than adding to this one.
  gradient.reset();
  seen_[parameter] = 1;
  if (pass_ + 1 == virtual_workers().size() && --buckets_[slot.bucket].missing == 0) {
    start_complete_buckets();
  }
}

void GradientBuckets::add(std::size_t parameter, const void* gradient) {
  const int rank = world_.rank();
  auto [top, merges] = leaf();
  if (gradient != nullptr && merges > 0) {
    accumulate(row(rank, parameter, top - 1), gradient);
    --top;
    --merges;
  } else {
    const Buffer to = row(rank, parameter, top);
    gradient ? std::memcpy(to.data, gradient, to.bytes()) : std::memset(to.data, 0, to.bytes());
  }
  for (; merges > 0; --merges, --top) {
    accumulate(row(rank, parameter, top - 1), row(rank, parameter, top).data);
  }
}

void GradientBuckets::end_pass() {
  in_pass_ = false;
  for (std::size_t p = 0; p < slots_.size(); ++p) {
    if (!seen_[p]) add(p, nullptr);
  }
  add_notes();
  ++pass_;
  if (pass_ == virtual_workers().size()) {
    for (Bucket& bucket : buckets_) bucket.missing = 0;
    start_complete_buckets();
  }
}

void GradientBuckets::add_notes() {
  const at::NoGradGuard no_grad;
  auto [top, merges] = leaf();
  double* notes = notes_row(top);
  std::copy(seen_.begin(), seen_.end(), notes);
  notes += seen_.size();
  notes[kLoss] = loss_of_pass_;
  notes[kPasses] = pass_ < announced_ ? 1 : 0;
  notes[kFlag] = flag_ ? 1 : 0;
  loss_of_pass_ = 0;
  flag_ = false;
  double* change = notes + kChanges;
  for (std::size_t i = 0; i < model_buffers_.size(); ++i) {
    const std::int64_t count = model_buffers_[i].numel();
    at::Tensor out = tensor_over({change, count, DType::kF64}, model_buffers_[i].sizes());
    out.copy_(model_buffers_[i]).sub_(buffers_before_[i]);
    model_buffers_[i].copy_(buffers_before_[i]);
    change += count;
  }
  for (; merges > 0; --merges, --top) {
    accumulate({notes_row(top - 1), note_count_, DType::kF64}, notes_row(top));
  }
}

void GradientBuckets::start_complete_buckets() {
  if (mode_ != Mode::kReduce) return;
  // In one fixed order on every rank, whatever order backward finished them in here.
  while (started_ < buckets_.size() && buckets_[started_].missing == 0) {
    start(started_++);
  }
}

// The nodes of this rank.
Buffer GradientBuckets::rows_of(const Bucket& bucket) const {
  const int rank = world_.rank();
  return {static_cast<char*>(gradients_.data()) + bucket.bytes_before[rank],
          programs_[rank].nodes * bucket.count, bucket.dtype};
}

void GradientBuckets::start(std::size_t bucket) {
  if (!compressed_.empty()) return start_compressed(bucket);
  works_.push_back(world_.all_reduce(rows_of(buckets_[bucket]), tree_, tree_.leaves()));
}

void GradientBuckets::start_compressed(std::size_t index) {
  const Bucket& bucket = buckets_[index];
  const Buffer rows = rows_of(bucket);
  for (std::int64_t row = programs_[world_.rank()].nodes - 1; row > 0; --row) {
    accumulate(rows.slice((row - 1) * bucket.count, bucket.count),
               rows.slice(row * bucket.count, 0).data);
  }
  const at::NoGradGuard no_grad;
  tensor_over(rows.slice(0, bucket.count), {bucket.count}).div_(tree_.leaves());
  works_.push_back(compressed_[index].start(first_rows_of(bucket), step_));
}

std::vector<Buffer> GradientBuckets::first_rows_of(const Bucket& bucket) const {
  std::vector<Buffer> rows;
  for (const std::size_t p : bucket.slots) rows.push_back(row(world_.rank(), p, 0));
  return rows;
}

void GradientBuckets::finish_compressed() {
  for (std::size_t b = 0; b < compressed_.size(); ++b) {
    const Bucket& bucket = buckets_[b];
    compressed_[b].finish(first_rows_of(bucket));
    for (std::size_t i = 0; i < bucket.slots.size(); ++i) {
      if (!has_gradient(bucket.slots[i])) compressed_[b].take_back(i);
    }
  }
  ++step_;
}

std::vector<Strategy::State> GradientBuckets::state() {
  std::vector<Strategy::State> state;
  if (compressed_.empty()) return state;
  for (CompressedSum& sum : compressed_) {
    for (Strategy::State& piece : sum.state()) state.push_back(std::move(piece));
  }
  // The same everywhere, and several that write it do no harm.
  state.push_back(
      {.name = "compression.step", .full_shape = {1}, .values = buffer_of(std::span(&step_, 1))});
  return state;
}

void GradientBuckets::finish() {
  if (!begun_) throw UsageError("strategy: reduce_gradients() was called without begin()");
  std::fill(seen_.begin(), seen_.end(), char{0});
  // Virtual workers without samples, or whose loss reached no parameter, add zero.
  while (pass_ < virtual_workers().size()) end_pass();
  works_.push_back(world_.all_reduce(
      {notes_.data(), programs_[world_.rank()].nodes * note_count_, DType::kF64}, tree_));
  for (Work& work : works_) work.wait();
  works_.clear();
  begun_ = false;
  finish_compressed();
  apply_buffer_changes();
}

bool GradientBuckets::has_gradient(std::size_t parameter) const {
  return notes_row(0)[parameter] > 0;
}

double GradientBuckets::loss() const {
  return notes_row(0)[slots_.size() + kLoss] / tree_.leaves();
}

bool GradientBuckets::flag_raised() const {
  return notes_row(0)[slots_.size() + kFlag] > 0;
}

void GradientBuckets::apply_buffer_changes() {
  const at::NoGradGuard no_grad;
  double* notes = notes_row(0) + slots_.size();
  if (notes[kPasses] == 0) return;
  double* change = notes + kChanges;
  for (std::size_t i = 0; i < model_buffers_.size(); ++i) {
    const std::int64_t count = model_buffers_[i].numel();
    const at::Tensor sum = tensor_over({change, count, DType::kF64}, model_buffers_[i].sizes());
    at::Tensor now = sum.div(notes[kPasses]).add_(buffers_before_[i]);
    if (!model_buffers_[i].is_floating_point()) now.round_();
    model_buffers_[i].copy_(now);
    change += count;
  }
}

}  // namespace trireme
