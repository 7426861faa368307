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

/// A worker's way to a server over ZeroMQ. A second thread pings while the worker computes, so that
/// the server does not take it for dead. A request whose connection breaks is sent again over a new
/// one, as it was: the server applies it once.
class ZmqLink final : public Link {
 public:
  /// What the links to a server and to its backup know of the two.
  struct Pair {
    /// The link whose server goes on without the other one.
    std::atomic<const ZmqLink*> alone = nullptr;
  };

  struct Options {
    std::string endpoint;
    std::string name;                           ///< for messages
    std::optional<KeyPair> keys;                ///< this worker's
    std::string server_key;                     ///< Z85, with keys
    std::chrono::milliseconds connect_timeout;  ///< until the server must have been there once,
    std::chrono::milliseconds lost_after;       ///< and how long it may be away
    std::chrono::milliseconds retry_after;      ///< an answer that does not come, doubling
    std::chrono::milliseconds dead_after;
    std::shared_ptr<Pair> pair = {};  ///< of a server and its backup, shared by the links to both
  };

  ZmqLink(std::shared_ptr<zmq::context_t> context, Options options);
  ~ZmqLink() override;

  /// Says from now on that this worker is there, before it asks for anything.
  void stand_by(std::uint32_t worker, std::uint64_t life);

  void send(const Message& request, std::span<const std::span<std::byte>> wanted) override;
  Message answer(Deadline deadline) override;
  std::string ask_what_is_awaited() override;
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
  void place(Message& answer);
  void see(std::uint16_t event, std::uint32_t value);
  void check_connection(Time now);
  void check_time(Time now, Deadline deadline);
  Time next_event(Deadline deadline) const;
  void beat();
  [[noreturn]] void fail(const std::string& what);

  std::shared_ptr<zmq::context_t> context_;
  Options options_;

  mutable std::mutex mutex_;  // of everything below: the pings come from another thread
  std::optional<zmq::socket_t> socket_;
  std::optional<Monitor> monitor_;

  // The connection.
  bool is_connected_ = false;
  bool was_connected_ = false;
  bool is_broken_ = false;  // and the request that was under way with it
  int refused_handshakes_ = 0;
  bool key_refused_ = false;
  Time away_since_;
  Time next_ping_;

  // The request.
  std::string head_;
  std::vector<std::span<const std::byte>> payloads_;
  std::vector<std::span<std::byte>> wanted_;
  std::uint64_t sequence_ = 0;
  bool is_under_way_ = false;
  int broken_ = 0;  // times that its connection broke before anything came back
  Time next_retry_;
  std::chrono::milliseconds retry_after_{};
  std::shared_ptr<std::atomic<int>> lent_ = std::make_shared<std::atomic<int>>(0);
  std::optional<Message> ping_;  // once there is a worker
  std::string awaited_;          // what the server last said that it waits for
  std::optional<Arrived> arrived_;

  Traffic traffic_;
  bool stop_ = false;
  std::condition_variable_any stopped_;
  std::thread heart_;
};

}  // namespace trireme::server
