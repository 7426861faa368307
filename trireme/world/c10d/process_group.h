#pragma once

#include <signal.h>

#include <chrono>
#include <limits>
#include <string>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

// What differs between the versions of libtorch, and what has to be known of Gloo's insides, is in
// this file and its source.

using Store = c10::intrusive_ptr<::c10d::Store>;
using GlooWork = c10::intrusive_ptr<::c10d::Work>;

/// No limit of Gloo's own ever ends a wait before us: it would close the connections to all ranks.
/// Ten years, for it is added to clocks in nanoseconds.
constexpr std::chrono::milliseconds kForever = std::chrono::hours(24 * 3650);

/// A client of the rendezvous' store; the server as well if `serves`.
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

  /// Closes the connections to all ranks; what is under way ends in an error.
  void close();
};

/// Gloo writes to sockets without asking for errors instead of SIGPIPE, and Python, where it grew
/// up, ignores that signal. While one of these lives, the calling thread gets none.
class WithoutSigpipe {
 public:
  WithoutSigpipe();
  ~WithoutSigpipe();
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;

 private:
  sigset_t before_;
};

/// While one of these lives, libtorch logs one level less: its store warns of every client whose
/// address has no name, and writes to a terminal that is not ours. With glog, as in libtorch 1.13
/// of Debian, the level was read when the program started, and nothing changes.
class WithoutWarnings {
 public:
  WithoutWarnings();
  ~WithoutWarnings();
  WithoutWarnings(const WithoutWarnings&) = delete;
  WithoutWarnings& operator=(const WithoutWarnings&) = delete;
};

/// The calling thread, and those that it starts, take no signals.
void leave_signals_to_others();

/// One short line without backtrace, source position or address: "connection closed by peer".
std::string short_reason(const std::exception& error);

}  // namespace trireme::c10d
