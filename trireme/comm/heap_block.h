#pragma once

#include "trireme/base/zeroed_memory.h"
#include "trireme/comm/memory.h"

namespace trireme {

/// Memory that is private to this rank, for backends without shared memory.
class HeapBlock final : public Memory::Block {
 public:
  HeapBlock(std::size_t bytes, int rank) : memory_(bytes), bytes_(bytes), rank_(rank) {}

  void* data() const override { return memory_.data(); }
  std::size_t bytes() const override { return bytes_; }
  void* peer(int rank) const override { return rank == rank_ ? data() : nullptr; }

 private:
  ZeroedMemory memory_;
  std::size_t bytes_;
  int rank_;
};

}  // namespace trireme
