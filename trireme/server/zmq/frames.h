#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/message.h"

namespace trireme::server {

/// The frames of a message behind its head: small payloads lie together in one, a large one has its
/// own.
class Payloads {
 public:
  /// At least this large, a payload has a frame of its own and may be lent.
  static constexpr std::size_t kLarge = std::size_t{64} << 10;

  Payloads() = default;
  ~Payloads();
  Payloads(const Payloads&) = delete;
  Payloads& operator=(const Payloads&) = delete;

  /// Memory for the next payload, 8-byte aligned.
  std::span<std::byte> add(std::size_t bytes);

  /// The next payload is a large one that stays where it is until `lent`, which counts such, has
  /// been taken down.
  void lend(std::span<const std::byte> payload, const std::shared_ptr<std::atomic<int>>& lent);

  std::size_t bytes() const { return bytes_; }

  /// Ends them; there are none afterwards.
  std::vector<zmq::message_t> take();

 private:
  void close();

  std::vector<zmq::message_t> frames_;
  std::byte* open_ = nullptr;  // memory that is still added to
  std::size_t room_ = 0;
  std::size_t used_ = 0;
  std::size_t next_room_ = 0;
  std::size_t bytes_ = 0;
};

/// A message as it came, frame by frame. Copies what is not aligned as payloads are.
class Arrived {
 public:
  explicit Arrived(std::vector<zmq::message_t> frames);

  std::span<const std::byte> head() const;
  std::span<const std::span<const std::byte>> bodies() const { return bodies_; }
  std::size_t bytes() const;

 private:
  std::vector<zmq::message_t> frames_;
  std::vector<std::unique_ptr<std::uint64_t[]>> copies_;
  std::vector<std::span<const std::byte>> bodies_;
};

}  // namespace trireme::server
