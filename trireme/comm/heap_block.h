#pragma once

#include <cstring>
#include <new>

#include "trireme/comm/memory.h"

namespace trireme {

/// Memory that no other rank sees, for backends that share none.
class HeapBlock final : public Memory::Block {
 public:
  HeapBlock(std::size_t bytes, int rank)
      : data_(bytes > 0 ? ::operator new(bytes, kAlignment) : nullptr), bytes_(bytes), rank_(rank) {
    if (bytes > 0) std::memset(data_, 0, bytes);
  }
  ~HeapBlock() override { ::operator delete(data_, kAlignment); }

  void* data() const override { return data_; }
  std::size_t bytes() const override { return bytes_; }
  void* peer(int rank) const override { return rank == rank_ ? data_ : nullptr; }

 private:
  static constexpr std::align_val_t kAlignment{64};

  void* data_;
  std::size_t bytes_;
  int rank_;
};

}  // namespace trireme
