#pragma once

#include <cstddef>
#include <memory>

namespace trireme {

/// Memory from Communicator::allocate(): 64-byte aligned, zeroed and, if the backend supports it,
/// visible to other ranks. Move-only. The destructor frees it without communication, so no other
/// rank may still use it. It must not outlive its communicator.
class Memory {
 public:
  /// The memory of one backend.
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

  /// Returns the address in this process of rank `rank`'s block of the same allocate() call, or
  /// null if this process cannot see it. peer(own rank) == data().
  void* peer(int rank) const { return block_ ? block_->peer(rank) : nullptr; }

 private:
  std::unique_ptr<Block> block_;
};

}  // namespace trireme
