#pragma once

#include <cstddef>
#include <memory>

namespace trireme {

/// Memory from Communicator::allocate: 64-byte aligned, zeroed, and, where the backend can,
/// visible to the other ranks. Move-only; freed at the end of its life, locally and without
/// communication, which requires that no rank still uses it. It must not outlive its communicator.
class Memory {
 public:
  /// What a backend hands out.
  class Block {
   public:
    virtual ~Block() = default;
    virtual void* data() const = 0;
    virtual std::size_t bytes() const = 0;
    virtual void* peer(int rank) const = 0;
  };

  Memory() = default;
  explicit Memory(std::unique_ptr<Block> block) : block_(std::move(block)) {}

  void* data() const { return block_ ? block_->data() : nullptr; }
  std::size_t bytes() const { return block_ ? block_->bytes() : 0; }

  /// Where rank `rank`'s block of the same allocate() call lies in this process, or null if it is
  /// out of sight. peer(own rank) == data().
  void* peer(int rank) const { return block_ ? block_->peer(rank) : nullptr; }

 private:
  std::unique_ptr<Block> block_;
};

}  // namespace trireme
