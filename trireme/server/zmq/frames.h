#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/message.h"
#include "trireme/server/zmq/unsent_replies.h"

namespace trireme::server {

/// The frames of a message behind its header: small payloads share a frame, a large one has its
/// own.
class Payloads {
 public:
  /// A payload of at least this size has its own frame, and may be sent without a copy.
  static constexpr std::size_t kLarge = std::size_t{64} << 10;

  Payloads() = default;
  ~Payloads();
  Payloads(const Payloads&) = delete;
  Payloads& operator=(const Payloads&) = delete;

  /// Memory for the next payload, 8-byte aligned.
  std::span<std::byte> add(std::size_t bytes);

  /// Adds a large payload that is sent without a copy: it must stay where it is until `in_flight`,
  /// which counts such payloads, has been decremented.
  void add_in_place(std::span<const std::byte> payload,
                    const std::shared_ptr<std::atomic<int>>& in_flight);

  /// The payloads until take() are those of `reply`, which lives until their frames have been sent.
  void belong_to(std::shared_ptr<UnsentReply> reply) { reply_ = std::move(reply); }

  std::size_t bytes() const { return bytes_; }

  /// Returns the frames; afterwards there are none.
  std::vector<zmq::message_t> take();

 private:
  void close();

  std::vector<zmq::message_t> frames_;
  std::byte* open_ = nullptr;  // the frame that small payloads are added to
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
  std::size_t next_capacity_ = 0;
  std::size_t bytes_ = 0;
  std::shared_ptr<UnsentReply> reply_;
};

/// The frames of a message that has been received. Copies frames that are not 8-byte aligned.
class ReceivedMessage {
 public:
  explicit ReceivedMessage(std::vector<zmq::message_t> frames);

  std::span<const std::byte> header() const;
  std::span<const std::span<const std::byte>> bodies() const { return bodies_; }
  std::size_t bytes() const;

 private:
  std::vector<zmq::message_t> frames_;
  std::vector<std::unique_ptr<std::uint64_t[]>> copies_;
  std::vector<std::span<const std::byte>> bodies_;
};

}  // namespace trireme::server
