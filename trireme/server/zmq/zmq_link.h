#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/link.h"
#include "trireme/server/zmq/frames.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/monitor.h"

namespace trireme::server {

/// The connection of a worker to a server over ZeroMQ. A second thread sends heartbeats while the
/// worker computes. A request whose connection breaks is sent again over a new one, unchanged: the
/// server applies it once.
class ZmqLink final : public Link {
 public:
  /// What the links to a primary and its replica share.
  struct Pair {
    /// The link to the server that runs without the other one.
    std::atomic<const ZmqLink*> degraded = nullptr;
  };

  struct Options {
    std::string endpoint;
    std::string name;                           ///< for messages
    std::optional<KeyPair> keys;                ///< this worker's
    std::string server_key;                     ///< Z85, with keys
    std::chrono::milliseconds connect_timeout;  ///< until it must have been reached once,
    std::chrono::milliseconds lost_after;       ///< and how long it may be away
    std::chrono::milliseconds retry_after;      ///< a missing reply; doubles each time
    std::chrono::milliseconds dead_after;
    std::shared_ptr<Pair> pair = {};  ///< shared by the links to a primary and its replica
  };

  ZmqLink(std::shared_ptr<zmq::context_t> context, Options options);
  ~ZmqLink() override;

  /// Sends heartbeats from now on, also before the first request.
  void start_heartbeats(std::uint32_t worker, std::uint64_t incarnation);

  void send(const Message& request, std::span<const std::span<std::byte>> outputs) override;
  Message receive(Deadline deadline) override;
  std::string waiting_for() override;
  std::byte* allocate(std::size_t) override { return nullptr; }
  Traffic traffic() const override;
  std::string name() const override { return options_.name; }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void open();
  void close();
  void send_again();
  void send_request();
  void ping(Time now);
  std::optional<Message> take();
  std::optional<Message> read(std::vector<zmq::message_t> frames);
  void copy_values(Message& reply);
  void on_event(std::uint16_t event, std::uint32_t value);
  void check_connection(Time now);
  void check_time(Time now, Deadline deadline);
  Time next_event(Deadline deadline) const;
  void send_heartbeats();
  [[noreturn]] void fail(const std::string& what);

  std::shared_ptr<zmq::context_t> context_;
  Options options_;

  mutable std::mutex mutex_;  // of everything below: another thread sends heartbeats
  std::optional<zmq::socket_t> socket_;
  std::optional<Monitor> monitor_;

  // The connection.
  bool is_connected_ = false;
  bool was_connected_ = false;
  bool is_broken_ = false;  // and with it the request that was in flight
  int failed_handshakes_ = 0;
  bool key_rejected_ = false;
  Time away_since_;
  Time next_ping_;

  // The request.
  std::string header_;
  std::vector<std::span<const std::byte>> payloads_;
  std::vector<std::span<std::byte>> outputs_;
  std::uint64_t sequence_ = 0;
  bool is_in_flight_ = false;
  int breaks_ = 0;  // of its connection, before anything was received
  Time next_retry_;
  std::chrono::milliseconds retry_after_{};
  std::shared_ptr<std::atomic<int>> zero_copies_ = std::make_shared<std::atomic<int>>(0);
  std::optional<Message> ping_;  // once the worker is known
  std::string waiting_for_;      // from the last reply to a ping
  std::optional<ReceivedMessage> received_;

  Traffic traffic_;
  bool stop_ = false;
  std::condition_variable_any stopped_;
  std::thread heartbeats_;
};

}  // namespace trireme::server
