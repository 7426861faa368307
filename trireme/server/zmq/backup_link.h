#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/server.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/monitor.h"

namespace trireme::server {

/// A server's way to its backup, which is sent the journal and says how far it has come. Over a new
/// connection it is sent what it has not acknowledged; one that stays away is given up. One thread.
class BackupLink final : public Journal {
 public:
  struct Options {
    std::string endpoint;
    std::string name;             ///< for messages: "the backup of server 0 of 2 at tcp://..."
    std::optional<KeyPair> keys;  ///< the server's own
    std::string backup_key;       ///< Z85, with keys
    int shard = 0;
    int shards = 1;
    std::int64_t version = 0;                   ///< updates made before the first entry
    std::chrono::milliseconds connect_timeout;  ///< until it must have been there once,
    std::chrono::milliseconds lost_after;       ///< and how long it may be away
    std::chrono::milliseconds dead_after;       ///< or silent
    std::function<void(const std::string& line)> log;
  };

  BackupLink(zmq::context_t& context, Options options);
  ~BackupLink() override;

  void append(const Message& entry) override;

  /// Number of the last entry.
  std::uint64_t appended() const { return appended_; }
  /// True if the backup has that entry, or has been given up.
  bool has(std::uint64_t entry) const { return is_given_up_ || entry <= acknowledged_; }

  /// It stayed away, and is not up to date any more.
  bool is_given_up() const { return is_given_up_; }

  void add_poll_items(std::vector<zmq::pollitem_t>& items);

  /// Reads what has come; never waits. Throws CommError if the backup never came, refuses to follow
  /// or has taken over: then this server must not answer anybody any more.
  void look();

 private:
  using Time = std::chrono::steady_clock::time_point;

  struct Entry {
    std::uint64_t number = 0;
    std::vector<zmq::message_t> frames;
  };

  void open();
  void close();
  void see(std::uint16_t event);
  void take();
  void say(const std::string& head);
  void send(Entry& entry);
  void check_time();

  zmq::context_t& context_;
  Options options_;
  std::uint64_t life_;
  std::optional<zmq::socket_t> socket_;
  std::optional<Monitor> monitor_;
  std::deque<Entry> entries_;  // not acknowledged
  std::uint64_t appended_ = 0;
  std::uint64_t acknowledged_ = 0;
  bool is_broken_ = false;
  bool follows_ = false;
  bool has_followed_ = false;
  bool is_given_up_ = false;
  Time away_since_;
  Time next_open_;
  Time next_ping_;
  Time heard_;
};

}  // namespace trireme::server
