#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/poisoned_memory.h"
#include "trireme/base/zeroed_memory.h"
#include "trireme/model/model.h"
#include "trireme/parallel/sharded/parameter_store.h"
#include "trireme/parallel/sharded/pass_order.h"
#include "trireme/parallel/sharded/units.h"
#include "trireme/tensor/poisoned_tensor.h"

namespace trireme {

namespace {

/// Memory for gathered buckets. What is given back is given out again.
class GatherMemory {
 public:
  ZeroedMemory take(std::size_t bytes) {
    const auto fits = free_.lower_bound(bytes);
    if (fits == free_.end() || fits->first > 2 * bytes) return ZeroedMemory(bytes);
    ZeroedMemory memory = std::move(fits->second);
    free_.erase(fits);
    return memory;
  }

  void give_back(std::size_t bytes, ZeroedMemory memory) {
    free_.emplace(bytes, std::move(memory));
  }

 private:
  std::multimap<std::size_t, ZeroedMemory> free_;
};

class GatheredParameters final : public ParameterStore, private BlockHooks {
 public:
  GatheredParameters(StoredParameters parameters, Communicator& gathers, Model& model, int passes)
      : in_(std::move(parameters)),
        gathers_(gathers),
        model_(model),
        order_(static_cast<int>(model.blocks().size()), passes),
        buckets_(in_.layout.buckets().size()),
        buckets_of_block_(buckets_of_blocks(model, in_.layout)) {
    allocate_pieces();
    std::size_t largest = 0;
    for (const at::Tensor& tensor : in_.tensors) largest = std::max(largest, tensor.nbytes());
    poison_ = std::make_shared<PoisonedMemory>(largest);
    for (std::size_t p = 0; p < in_.tensors.size(); ++p) {
      keep_piece(p, in_.initial_values(p));
      // A storage of the parameter's own, which stays: what autograd has saved of it sees the
      // values of the time at which it is used.
      in_.tensors[p].set_data(poisoned_tensor(in_.tensors[p], poison_));
    }
    model_.add_hooks(*this);
  }

  ~GatheredParameters() override { model_.remove_hooks(*this); }

  Buffer piece(std::size_t bucket) const override {
    const BucketLayout::Bucket& one = in_.layout.buckets()[bucket];
    return {buckets_[bucket].piece.data(), in_.pieces.of(bucket, in_.ranks.rank()).size(),
            one.dtype};
  }

  // The next gather brings the new values; what is on its way or in use is none of this step's.
  void publish() override {}

  void begin_step() override {
    leave_all();
    order_.begin_step();
    has_computed_ = false;
  }

  void end_passes(bool has_gradients) override {
    if (!order_.is_step_open()) return;
    if (has_gradients && !has_computed_) {
      throw UsageError(
          "strategy sharded: gradients have come, but no block of the model has computed: with "
          "stage 3 between hosts the parameters are only there while strategy->model() computes; "
          "call strategy->model().forward(x) in place of the module's forward(x)");
    }
    make_up_for(order_.end());
    leave_all();
    order_.end_step();
  }

 private:
  struct Bucket {
    ZeroedMemory piece;   // this rank's
    ZeroedMemory memory;  // while it is held
    int holders = 0;
    bool is_ready = false;  // gathered, and its parameters point to it
    Work gathering;
  };

  void allocate_pieces() {
    for (std::size_t b = 0; b < buckets_.size(); ++b) {
      const auto count = static_cast<std::size_t>(in_.pieces.of(b, in_.ranks.rank()).size());
      buckets_[b].piece = ZeroedMemory(count * size_of(in_.layout.buckets()[b].dtype));
    }
  }

  void keep_piece(std::size_t p, const at::Tensor& values) {
    const BucketLayout::Slot& slot = in_.layout.slots()[p];
    const Range kept = in_.pieces.of(slot, in_.ranks.rank());
    if (kept.size() == 0) return;
    const Buffer from = buffer_of(values).slice(kept.begin, kept.size());
    const std::int64_t begin =
        slot.offset + kept.begin - in_.pieces.of(slot.bucket, in_.ranks.rank()).begin;
    std::memcpy(piece(slot.bucket).slice(begin, kept.size()).data, from.data, from.bytes());
  }

  void before_forward(int block) override {
    has_computed_ = true;
    begin_block(order_.forward(block), block);
  }
  void after_forward(int block) override { end_block(block); }
  void before_backward(int block) override { begin_block(order_.backward(block), block); }
  void after_backward(int block) override { end_block(block); }

  // `place`: in the order of the step's passes.
  void begin_block(PassOrder::Place place, int block) {
    if (order_.is_step_open()) make_up_for(place);
    enter(block);
    order_.advance(place);
    prefetch(order_.next_block(block));
  }

  void end_block(int block) {
    if (entered_ == block) leave(std::exchange(entered_, kNone));
  }

  // What this rank does not compute, others do: it takes part in the gathers.
  void make_up_for(PassOrder::Place end) {
    while (order_.place() < end) {
      const PassOrder::Place place = order_.place();
      const int block = order_.block_at(place);
      enter(block);
      order_.advance(place);
      prefetch(order_.next_block(block));
      end_block(block);
    }
  }

  void enter(int block) {
    if (entered_ != kNone) leave(std::exchange(entered_, kNone));  // after an exception
    if (prefetched_ != block) {
      hold(block);
    } else {
      prefetched_ = kNone;
    }
    entered_ = block;
    for (const std::size_t b : buckets_of_block_[static_cast<std::size_t>(block)]) make_ready(b);
  }

  void prefetch(int block) {
    if (prefetched_ != kNone) leave(prefetched_);
    prefetched_ = block;
    if (block != kNone) hold(block);
  }

  void hold(int block) {
    for (const std::size_t b : buckets_of_block_[static_cast<std::size_t>(block)]) {
      if (buckets_[b].holders++ == 0) start_gathering(b);
    }
  }

  void leave(int block) {
    for (const std::size_t b : buckets_of_block_[static_cast<std::size_t>(block)]) {
      if (--buckets_[b].holders == 0) free_bucket(b);
    }
  }

  void leave_all() {
    if (entered_ != kNone) leave(std::exchange(entered_, kNone));
    if (prefetched_ != kNone) leave(std::exchange(prefetched_, kNone));
  }

  Buffer whole(std::size_t b) const {
    const BucketLayout::Bucket& layout = in_.layout.buckets()[b];
    return {buckets_[b].memory.data(), layout.count, layout.dtype};
  }

  void start_gathering(std::size_t b) {
    Bucket& bucket = buckets_[b];
    const BucketLayout::Bucket& layout = in_.layout.buckets()[b];
    bucket.memory = free_.take(static_cast<std::size_t>(layout.count) * size_of(layout.dtype));
    bucket.gathering = gathers_.all_gather(whole(b), piece(b), in_.pieces.counts(b));
  }

  void make_ready(std::size_t b) {
    Bucket& bucket = buckets_[b];
    if (bucket.is_ready) return;
    bucket.gathering.wait();
    for (const std::size_t p : in_.layout.buckets()[b].parameters) {
      const BucketLayout::Slot& slot = in_.layout.slots()[p];
      point(p, whole(b).slice(slot.offset, slot.count).data);
    }
    bucket.is_ready = true;
  }

  void free_bucket(std::size_t b) {
    Bucket& bucket = buckets_[b];
    bucket.gathering.wait();
    if (std::exchange(bucket.is_ready, false)) {
      for (const std::size_t p : in_.layout.buckets()[b].parameters) point(p, poison_->data());
    }
    free_.give_back(whole(b).bytes(), std::move(bucket.memory));
    bucket.memory = ZeroedMemory();
  }

  void point(std::size_t p, void* data) {
    in_.tensors[p].storage().set_data_ptr(at::DataPtr(
        data, new std::shared_ptr<PoisonedMemory>(poison_),
        [](void* kept) { delete static_cast<std::shared_ptr<PoisonedMemory>*>(kept); }, at::kCPU));
  }

  static constexpr int kNone = PassOrder::kNone;

  StoredParameters in_;
  Communicator& gathers_;
  Model& model_;
  PassOrder order_;
  std::shared_ptr<PoisonedMemory> poison_;
  GatherMemory free_;
  std::vector<Bucket> buckets_;
  std::vector<std::vector<std::size_t>> buckets_of_block_;
  bool has_computed_ = false;  // on this rank, in this step
  int entered_ = kNone;
  int prefetched_ = kNone;
};

}  // namespace

std::unique_ptr<ParameterStore> gathered_parameters(StoredParameters parameters,
                                                    Communicator& gathers, Model& model,
                                                    int passes) {
  return std::make_unique<GatheredParameters>(std::move(parameters), gathers, model, passes);
}

}  // namespace trireme
