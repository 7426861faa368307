#pragma once

#include "trireme/world/c10d/process_group.h"
#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

/// The connections of a rank to all others: frames and chunks have their own, so that neither waits
/// behind the other and a broken one of chunks still lets frames say why.
struct Joined {
  c10::intrusive_ptr<GlooGroup> frames;
  c10::intrusive_ptr<GlooGroup> chunks;
};

/// Meets the other ranks and connects to them. Errors as of gloo().
Joined join(const Rendezvous& rendezvous);

}  // namespace trireme::c10d
