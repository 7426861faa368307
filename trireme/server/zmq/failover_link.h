#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/server/zmq/zmq_link.h"

namespace trireme::server {

/// A worker's way to a server and to its backup: a request whose server is lost goes to the other,
/// as it was. Which of them answers is theirs to say; they are asked in turn, until one of them has
/// said that it goes on alone.
class FailoverLink final : public Link {
 public:
  /// How long either may be out of reach before the other is asked.
  static constexpr std::chrono::milliseconds kPatience{1000};

  /// The links share `pair`, and give up after kPatience. Together they may be away for
  /// `connect_timeout` until one has answered for the first time, and then for `lost_after`.
  FailoverLink(std::unique_ptr<ZmqLink> server, std::unique_ptr<ZmqLink> backup,
               std::shared_ptr<ZmqLink::Pair> pair, std::chrono::milliseconds connect_timeout,
               std::chrono::milliseconds lost_after);

  void send(const Message& request, std::span<const std::span<std::byte>> wanted) override;
  Message answer(Deadline deadline) override;
  std::string ask_what_is_awaited() override { return links_[asked_]->ask_what_is_awaited(); }
  std::byte* allocate(std::size_t) override { return nullptr; }
  Traffic traffic() const override { return links_[0]->traffic() + links_[1]->traffic(); }
  std::string name() const override { return links_[asked_]->name(); }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void ask_the_other(const std::string& why);

  std::array<std::unique_ptr<ZmqLink>, 2> links_;
  std::shared_ptr<ZmqLink::Pair> pair_;
  std::chrono::milliseconds connect_timeout_;
  std::chrono::milliseconds lost_after_;
  std::size_t asked_ = 0;
  bool was_answered_ = false;
  Message request_;
  std::vector<std::span<std::byte>> wanted_;
  std::optional<Time> away_since_;
  std::array<std::string, 2> why_;
};

}  // namespace trireme::server
