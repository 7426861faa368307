#include <ATen/ATen.h>

#include <cstring>
#include <utility>

#include "trireme/parallel/sharded/flat_memory.h"
#include "trireme/parallel/sharded/parameter_store.h"

namespace trireme {

namespace {

/// Parameters that lie side by side in memory that is kept as long as one of them.
class WholeParameters : public ParameterStore {
 public:
  Buffer piece(std::size_t bucket) const override {
    const Range own = in_.pieces.of(bucket, in_.ranks.rank());
    return whole(bucket).slice(own.begin, own.size());
  }

 protected:
  /// The memory is that of `owner`, a rank that shares its memory with this one.
  WholeParameters(StoredParameters parameters, int owner)
      : in_(std::move(parameters)), flat_(in_.layout) {
    const bool is_own = owner == in_.ranks.rank();
    memory_ = std::make_shared<Memory>(in_.ranks.allocate(is_own ? flat_.bytes() : 0));
    base_ = memory_->peer(owner);
    for (std::size_t p = 0; p < in_.tensors.size(); ++p) {
      const at::Tensor& tensor = in_.tensors[p];
      const Buffer home = flat_.parameter(base_, p);
      const at::Tensor values = in_.initial_values(p);
      if (is_own && home.count > 0) std::memcpy(home.data, values.data_ptr(), home.bytes());
      tensor.set_data(at::from_blob(
          home.data, tensor.sizes(), [memory = memory_](void*) {}, tensor.options()));
    }
    in_.ranks.barrier();
  }

  const StoredParameters& in() const { return in_; }
  Buffer whole(std::size_t bucket) const { return flat_.bucket(base_, bucket); }

 private:
  StoredParameters in_;
  FlatMemory flat_;
  std::shared_ptr<Memory> memory_;
  void* base_ = nullptr;
};

class CopiedParameters final : public WholeParameters {
 public:
  explicit CopiedParameters(const StoredParameters& parameters)
      : WholeParameters(parameters, parameters.ranks.rank()) {}

  void publish() override {
    std::vector<Work> works;
    for (std::size_t b = 0; b < in().layout.buckets().size(); ++b) {
      works.push_back(in().ranks.all_gather(whole(b), piece(b), in().pieces.counts(b)));
    }
    for (Work& work : works) work.wait();
  }
};

class SharedParameters final : public WholeParameters {
 public:
  explicit SharedParameters(const StoredParameters& parameters) : WholeParameters(parameters, 0) {}

  void publish() override { in().ranks.barrier(); }
};

}  // namespace

std::unique_ptr<ParameterStore> copied_parameters(StoredParameters parameters) {
  return std::make_unique<CopiedParameters>(parameters);
}

std::unique_ptr<ParameterStore> shared_parameters(StoredParameters parameters) {
  return std::make_unique<SharedParameters>(parameters);
}

}  // namespace trireme
