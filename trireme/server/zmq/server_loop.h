#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/server.h"
#include "trireme/server/zmq/backup.h"
#include "trireme/server/zmq/frames.h"
#include "trireme/server/zmq/peers.h"
#include "trireme/server/zmq/refusals.h"
#include "trireme/server/zmq/server_socket.h"
#include "trireme/server/zmq/standby.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// What a ZmqServer is made of: a Server, its socket, the other one of its pair if it is of one,
/// and the thread that gives each its turn. The functions that ZmqServer has too are as described
/// there; the others are that thread's.
class ZmqServer::Loop final : public Answers {
 public:
  /// Of options that have been checked. Listens and starts the thread.
  explicit Loop(Options options);
  ~Loop() override;

  const std::string& endpoint() const { return socket_.endpoint(); }
  const std::string& public_key() const { return socket_.keys().public_key; }
  bool wait_until_over(std::chrono::milliseconds timeout);
  Counts counts() const;
  bool is_standby() const { return standby_ && standby_->is_waiting(); }
  void stop();
  std::string save();

  std::span<std::byte> place(const Request& request, std::size_t part, std::size_t bytes) override;
  void answer(const Request& request, const Message& answer) override;

 private:
  void run();
  void wait();
  void look_around();
  void read(ServerSocket::Incoming incoming);
  std::optional<Message> decoded(std::uint64_t from, const Arrived& arrived);
  void end_if_left_alone(const Message& message) const;
  bool goes_alone() const;
  void refuse(const Request& request, std::uint8_t fault, const std::string& why);
  void send(std::uint64_t to, const Message& answer, std::vector<zmq::message_t> bodies);

  Options options_;
  std::atomic<std::size_t> held_bytes_{0};  // by what the server holds
  Server server_;
  Refusals refusals_;
  zmq::context_t context_{1};
  ServerSocket socket_;

  // The thread's.
  Peers peers_;
  std::optional<Standby> standby_;  // if it is a backup,
  std::optional<Backup> backup_;    // and if it has one
  Payloads placed_;
  std::optional<Message> save_;

  std::atomic<std::int64_t> requests_{0};
  std::atomic<std::int64_t> version_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_over_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace trireme::server
