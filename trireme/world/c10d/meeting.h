#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "trireme/launch/rendezvous/server.h"
#include "trireme/world/c10d/process_group.h"
#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

/// The ranks of a world find each other in the store of a rendezvous and compare their greetings
/// before any of them connects to another.
///
///     Meeting meeting(rendezvous, message::greeting(rendezvous.world_size));
///     meeting.gather();
///     ... connect, with meeting.store() and meeting.address() ...
///     meeting.conclude();
///
/// The first error is written to the store, and every rank that reads it throws the same text:
/// UsageError if greetings differ or two processes claim one rank, CommError if a rank is missing
/// or rank 0 cannot be reached. Control characters of texts in the store are replaced.
class Meeting {
 public:
  Meeting(const Rendezvous& rendezvous, std::string greeting);

  /// Returns once all ranks have arrived with the same greeting; address() is then reachable from
  /// all of them.
  void gather();

  /// Rank 0 returns once all ranks have concluded: until then they need its store.
  void conclude();

  const Store& store() const { return store_; }
  /// The address of this rank to which its peers connect.
  const std::string& address() const { return address_; }
  std::chrono::milliseconds left() const;

 private:
  Store join_store();
  void claim_rank();
  void compare_greeting();
  void leave_loopback();
  std::vector<int> missing_ranks();
  std::string who_is_missing();
  void give_notice();
  std::string refusals() const;
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
  std::unique_ptr<rendezvous::Server> server_;  // on rank 0, unless the store is served
  Store store_;
  std::chrono::steady_clock::time_point next_notice_;
  std::chrono::milliseconds between_notices_;
  std::size_t refusals_noticed_ = 0;
};

}  // namespace trireme::c10d
