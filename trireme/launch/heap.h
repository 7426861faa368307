#pragma once

namespace trireme {

/// From now on this process keeps the memory it frees for what it allocates next.
///
/// A training step allocates and frees the same tensors as the one before. By default glibc gives
/// the larger ones back to the system each time, which then clears every page anew: half of the
/// time of a small convolutional network. The price is that the process stays as large as it ever
/// was. Call it before other threads start. Does nothing where the allocator is not glibc's.
void keep_freed_memory();

}  // namespace trireme
