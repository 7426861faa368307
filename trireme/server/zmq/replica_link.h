#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/replication_log.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/monitor.h"

namespace trireme::server {

/// A primary's connection to its replica, which is sent the replication log and acknowledges each
/// entry that it has applied. A new connection begins with the entries that have not been
/// acknowledged. A replica that stays away is given up. One thread.
class ReplicaLink final : public ReplicationLog {
 public:
  struct Options {
    std::string endpoint;
    std::string name;             ///< for messages: "the replica of server 0 of 2 at tcp://..."
    std::optional<KeyPair> keys;  ///< of the primary
    std::string replica_key;      ///< Z85, with keys
    int shard = 0;
    int shards = 1;
    std::int64_t version = 0;                   ///< updates made before the first entry
    std::chrono::milliseconds connect_timeout;  ///< until it must have replicated once,
    std::chrono::milliseconds lost_after;       ///< and how long it may be away
    std::chrono::milliseconds dead_after;       ///< or silent
    std::function<void(const std::string& line)> log;
  };

  ReplicaLink(zmq::context_t& context, Options options);
  ~ReplicaLink() override;

  void append(const Message& entry) override;

  /// Number of the last entry.
  std::uint64_t appended() const { return appended_; }
  /// True if the replica has applied that entry, or has been given up.
  bool has(std::uint64_t entry) const { return is_given_up_ || entry <= acknowledged_; }

  /// True if the replica was away for too long, and is not up to date any more.
  bool is_given_up() const { return is_given_up_; }

  void add_poll_items(std::vector<zmq::pollitem_t>& items);

  /// Reads acknowledgments; never waits. Throws CommError if the replica has never connected,
  /// rejects the log or has taken over: then the primary must not reply to any request any more.
  void poll();

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Entry {
    std::uint64_t number = 0;
    std::vector<zmq::message_t> frames;
  };

  void open();
  void close();
  void on_event(std::uint16_t event);
  void receive();
  void send(const Message& message);
  void send(Entry& entry);
  void check_time();

  zmq::context_t& context_;
  Options options_;
  std::uint64_t incarnation_;
  std::optional<zmq::socket_t> socket_;
  std::optional<Monitor> monitor_;
  std::deque<Entry> entries_;  // not acknowledged
  std::uint64_t appended_ = 0;
  std::uint64_t acknowledged_ = 0;
  bool is_broken_ = false;
  bool is_replicating_ = false;
  bool has_replicated_ = false;
  bool is_given_up_ = false;
  Time away_since_;
  Time next_open_;
  Time next_ping_;
  Time heard_;
};

}  // namespace trireme::server
