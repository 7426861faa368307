#pragma once

#include <signal.h>

#include <chrono>
#include <limits>
#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

// This file and its source contain all that depends on the version of libtorch or on the internals
// of Gloo.

using Store = c10::intrusive_ptr<::c10d::Store>;
using GlooWork = c10::intrusive_ptr<::c10d::Work>;

/// The timeout that Gloo is given. It must never expire, because Gloo would then close the
/// connections to all ranks. It is ten years, since Gloo adds it to clocks in nanoseconds.
constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 3650);

/// Opens a client of a TCPStore at the address of the rendezvous, and its server too if `serves`.
Store open_store(const Rendezvous& rendezvous, bool serves, std::chrono::milliseconds timeout);
Store with_prefix(const std::string& prefix, Store store);

/// Gloo's connections between all ranks, listening on one address.
class GlooGroup final : public ::c10d::ProcessGroupGloo {
 public:
  /// Tags are below this one.
  static constexpr int kClosingTag = std::numeric_limits<int>::max();

  /// Connects to all ranks. Throws what c10d throws; waits forever for a rank that has ended.
  static c10::intrusive_ptr<GlooGroup> connect(const Store& store, const Rendezvous& rendezvous,
                                               const std::string& address);
  GlooGroup(const Store& store, int rank, int size, c10::intrusive_ptr<Options> options);

  /// Begins to move `bytes` bytes. Throws what Gloo throws if the connection is broken.
  GlooWork begin_send(const void* data, std::size_t bytes, int to, int tag);
  GlooWork begin_recv(void* data, std::size_t bytes, int from, int tag);

  /// Closes the connections to all ranks; transfers in flight end in an error.
  void close();
};

/// Gloo writes to sockets without MSG_NOSIGNAL. While an object of this class lives, the calling
/// thread receives no SIGPIPE.
class WithoutSigpipe {
 public:
  WithoutSigpipe();
  ~WithoutSigpipe();
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;

 private:
  sigset_t before_;
};

/// While an object of this class lives, libtorch logs one level less: its store warns of every
/// client whose address has no name. It has no effect with glog, as in libtorch 1.13 of Debian,
/// which reads the level when the program starts.
class WithoutWarnings {
 public:
  WithoutWarnings();
  ~WithoutWarnings();
  WithoutWarnings(const WithoutWarnings&) = delete;
  WithoutWarnings& operator=(const WithoutWarnings&) = delete;
};

/// Blocks all signals in the calling thread and in the threads that it starts.
void leave_signals_to_others();

/// One short line without backtrace, source position or address: "connection closed by peer".
std::string short_reason(const std::exception& error);

}  // namespace trireme::c10d
