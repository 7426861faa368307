#pragma once

namespace trireme {

/// Makes this process keep the memory that it frees, for its later allocations.
///
/// Each training step allocates and frees the same tensors. By default glibc returns the larger
/// ones to the system, which clears every page again: half of the time of a small convolutional
/// network. The price is that the process never becomes smaller. Must be called before other
/// threads start. Does nothing if the allocator is not glibc's.
void keep_freed_memory();

}  // namespace trireme
