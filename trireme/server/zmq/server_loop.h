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
#include "trireme/server/zmq/frames.h"
#include "trireme/server/zmq/rejection_log.h"
#include "trireme/server/zmq/replication.h"
#include "trireme/server/zmq/server_socket.h"
#include "trireme/server/zmq/standby.h"
#include "trireme/server/zmq/unsent_replies.h"
#include "trireme/server/zmq/worker_connections.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// The implementation of ZmqServer: a Server, its socket, replication if it is one of a pair, and
/// the thread that runs them. The functions that ZmqServer has too are described there; all others
/// must be called by that thread.
class ZmqServer::Loop final : public ReplySink {
 public:
  /// `options` have been checked. Listens and starts the thread.
  explicit Loop(Options options);
  ~Loop() override;

  const std::string& endpoint() const { return socket_.endpoint(); }
  const std::string& public_key() const { return socket_.keys().public_key; }
  bool wait_until_over(std::chrono::milliseconds timeout);
  Counts counts() const;
  bool is_standby() const { return standby_ && standby_->is_waiting(); }
  void stop();
  std::string save();

  std::span<std::byte> allocate_reply(const Request& request, std::size_t part,
                                      std::size_t bytes) override;
  void send_reply(const Request& request, const Message& reply) override;

 private:
  void run();
  void wait();
  void check_time();
  void handle(ServerSocket::Incoming incoming);
  void handle(Request request, const std::string& client_name);
  std::optional<Message> decoded(std::uint64_t from, const ReceivedMessage& received);
  void end_if_superseded(const Message& message) const;
  bool is_degraded() const;
  void reject(const Request& request, ErrorCode error, const std::string& why);
  void send(std::uint64_t to, const Message& reply, std::vector<zmq::message_t> bodies);

  Options options_;
  std::atomic<std::size_t> held_bytes_{0};  // of requests that wait
  Server server_;
  UnsentReplies unsent_;
  RejectionLog rejections_;
  zmq::context_t context_{1};
  ServerSocket socket_;

  // Used by the thread only, or after it has ended.
  WorkerConnections workers_;
  std::optional<Standby> standby_;          // if this is a replica
  std::optional<Replication> replication_;  // if this has a replica
  Payloads reply_payloads_;
  std::optional<Message> reply_to_save_;

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
