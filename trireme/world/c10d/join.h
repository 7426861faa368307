#pragma once

#include "trireme/world/c10d/process_group.h"
#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

/// The connections of a rank to all others. Frames and chunks have separate connections, so that
/// neither delays the other, and frames can report why a connection of chunks has broken.
struct Joined {
  c10::intrusive_ptr<GlooGroup> frames;
  c10::intrusive_ptr<GlooGroup> chunks;
};

/// Finds the other ranks and connects to them. Throws as gloo() does.
Joined join(const Rendezvous& rendezvous);

}  // namespace trireme::c10d
