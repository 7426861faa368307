#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/state_tensor.h"
#include "trireme/comm/communicator.h"
#include "trireme/formats/safetensors.h"

namespace trireme {

/// Tensors of which the ranks of a world hold ranges. Rank 0 reads whole tensors, piece by piece,
/// in any order, while the other ranks serve.
class ModelParts {
 public:
  /// Collective. `mine` must outlive this object. Throws UsageError, on every rank, if a region is
  /// no range of the whole tensor, or if the ranges of a tensor do not cover it exactly once.
  ModelParts(Communicator& world, std::span<const StateTensor> mine);

  /// The tensors that any rank has a part of.
  bool contains(const std::string& name) const { return index_of_.contains(name); }

  /// On rank 0: gives all bytes of a tensor in order. What `write` throws is thrown once the other
  /// ranks' pieces of the tensor have come.
  void read(const std::string& name, const ByteSink& write);
  /// On rank 0, at the end: lets the other ranks return from serve().
  void finish();

  /// On the other ranks: sends what rank 0 reads, until finish().
  void serve();

 private:
  struct Part {
    int rank = 0;
    std::int64_t begin = 0;  // elements
    std::int64_t count = 0;
  };
  struct Tensor {
    DType dtype = DType::kF32;
    std::vector<Part> parts;            // in ascending order
    const StateTensor* mine = nullptr;  // this rank's part
  };

  void announce(std::int64_t index);
  void send(const Tensor& tensor);

  Communicator& world_;
  std::vector<Tensor> tensors_;  // by index
  std::map<std::string, std::size_t, std::less<>> index_of_;
};

}  // namespace trireme
