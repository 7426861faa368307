#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace trireme::server {

/// The values of one reply, from allocation until ZeroMQ has sent or dropped the last frame of
/// them. Any thread may destroy it.
class UnsentReply {
 public:
  struct Count {
    std::atomic<int> replies{0};
    std::atomic<std::size_t> bytes{0};
  };

  UnsentReply(std::shared_ptr<Count> of_client, std::shared_ptr<Count> of_all);
  ~UnsentReply();
  UnsentReply(const UnsentReply&) = delete;
  UnsentReply& operator=(const UnsentReply&) = delete;

  /// Counts `bytes` more.
  void add(std::size_t bytes);

 private:
  std::shared_ptr<Count> of_client_;
  std::shared_ptr<Count> of_all_;
  std::size_t bytes_ = 0;
};

/// Replies with values that clients have not read. A client that waits for each reply has at most
/// one, and a second while ZeroMQ frees the first; who has more reads too slowly or not at all. One
/// thread, except for bytes().
class UnsentReplies {
 public:
  static constexpr int kMostOfClient = 2;

  /// `max_bytes`: of all clients.
  explicit UnsentReplies(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  /// Why no reply may be made for a request from connection `from`; empty: one may.
  std::string refusal(std::uint64_t from) const;

  std::shared_ptr<UnsentReply> begin(std::uint64_t from);

  /// Forgets clients that have read everything. Must be called now and then.
  void forget_idle();

  std::size_t bytes() const { return all_->bytes; }

 private:
  using Count = UnsentReply::Count;
  std::size_t max_bytes_;
  std::shared_ptr<Count> all_ = std::make_shared<Count>();
  std::map<std::uint64_t, std::shared_ptr<Count>> clients_;  // by connection
};

}  // namespace trireme::server
