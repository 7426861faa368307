#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/server/zmq/zmq_link.h"

namespace trireme::server {

/// The connection of a worker to a primary and its replica: a request whose server is lost is sent
/// to the other one, unchanged. The servers decide which of them replies; they are tried in turn
/// until one has said that it is degraded, that is, runs without the other.
class FailoverLink final : public Link {
 public:
  /// How long one server may be unreachable before the other is tried.
  static constexpr std::chrono::milliseconds kTryOtherAfter{1000};

  /// The links share `pair`, and give up after kTryOtherAfter. Both may be unreachable for
  /// `connect_timeout` before the first reply, and for `lost_after` later.
  FailoverLink(std::unique_ptr<ZmqLink> primary, std::unique_ptr<ZmqLink> replica,
               std::shared_ptr<ZmqLink::Pair> pair, std::chrono::milliseconds connect_timeout,
               std::chrono::milliseconds lost_after);

  void send(const Message& request, std::span<const std::span<std::byte>> outputs) override;
  Message receive(Deadline deadline) override;
  std::string waiting_for() override { return links_[current_]->waiting_for(); }
  std::byte* allocate(std::size_t) override { return nullptr; }
  Traffic traffic() const override { return links_[0]->traffic() + links_[1]->traffic(); }
  std::string name() const override { return links_[current_]->name(); }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void try_other(const std::string& why);

  std::array<std::unique_ptr<ZmqLink>, 2> links_;
  std::shared_ptr<ZmqLink::Pair> pair_;
  std::chrono::milliseconds connect_timeout_;
  std::chrono::milliseconds lost_after_;
  std::size_t current_ = 0;
  bool has_replied_ = false;
  Message request_;
  std::vector<std::span<std::byte>> outputs_;
  std::optional<Time> away_since_;
  std::array<std::string, 2> why_;
};

}  // namespace trireme::server
