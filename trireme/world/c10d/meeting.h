#pragma once

#include <chrono>
#include <string>

#include "trireme/world/c10d/process_group.h"
#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

/// The ranks of a world find each other in the store of a rendezvous and compare what they are
/// before any of them connects to another.
///
///     Meeting meeting(rendezvous, message::greeting(rendezvous.world_size));
///     meeting.gather();
///     ... connect, with meeting.store() and meeting.address() ...
///     meeting.conclude();
///
/// What goes wrong is a verdict in the store: every rank that is there throws the same sentence.
/// UsageError: greetings differ, or two processes claim one rank. CommError: a rank has not come,
/// or rank 0 cannot be reached.
class Meeting {
 public:
  Meeting(const Rendezvous& rendezvous, std::string greeting);

  /// Returns once all ranks are there and alike; address() is then one that all of them reach.
  void gather();

  /// Rank 0 returns once all ranks have concluded: until then they need its store.
  void conclude();

  const Store& store() const { return store_; }
  /// Of this rank, for its peers to connect to.
  const std::string& address() const { return address_; }
  std::chrono::milliseconds left() const;

 private:
  void claim_rank();
  void compare_greeting();
  void leave_loopback();
  std::string missing_ranks();
  [[noreturn]] void raise(const std::string& verdict);
  [[noreturn]] void leave_with(const std::string& verdict);

  std::string read(const std::string& key);
  std::string write_first(const std::string& key, const std::string& text);

  Rendezvous rendezvous_;
  std::string greeting_;
  bool serves_;
  std::chrono::steady_clock::time_point deadline_;
  std::string address_;
  WithoutWarnings without_warnings_;
  Store store_;
};

}  // namespace trireme::c10d
