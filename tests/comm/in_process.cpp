#include "tests/comm/in_process.h"

#include <fmt/format.h>

#include <atomic>
#include <cstring>

#include "trireme/base/error.h"

namespace trireme::test {

using message::Arrival;
using message::Chunk;
using message::Deadline;
using message::Frame;

class InProcessTransfer final : public message::Transfer {
 public:
  struct Expected {
    Chunk chunk;
    std::uint64_t number;
  };

  InProcessTransfer(Network& network, int rank, int tag, std::vector<Expected> expected)
      : network_(network), rank_(rank), tag_(tag), expected_(std::move(expected)) {}

  void wait(Deadline deadline) override {
    std::unique_lock lock(network_.mutex_);
    for (const auto& [chunk, number] : expected_) {
      auto& chunks = network_.streams_[{chunk.peer, rank_, tag_}].chunks;
      const bool came = network_.inboxes_[rank_].chunk_came.wait_until(
          lock, deadline, [&, n = number, p = chunk] {
            return aborted_ || chunks.contains(n) || !network_.lost_[p.peer].empty();
          });
      if (aborted_) throw CommError("aborted");
      const auto data = chunks.find(number);
      if (data == chunks.end()) {
        throw CommError(came ? network_.lost_[chunk.peer] : "late", chunk.peer);
      }
      if (data->second.size() != chunk.bytes) {
        throw CommError(
            fmt::format("{} bytes came, {} were wanted", data->second.size(), chunk.bytes),
            chunk.peer);
      }
      std::memcpy(chunk.data, data->second.data(), chunk.bytes);
      chunks.erase(data);
    }
  }

  void abort() override {
    const std::lock_guard lock(network_.mutex_);
    aborted_ = true;
    network_.inboxes_[rank_].chunk_came.notify_all();
  }

 private:
  Network& network_;
  int rank_;
  int tag_;
  std::vector<Expected> expected_;
  bool aborted_ = false;
};

class InProcessTransport final : public message::Transport {
 public:
  InProcessTransport(Network& network, int rank)
      : Transport(rank, static_cast<int>(network.lost_.size())), network_(network) {}

  std::string name() const override { return "in-process"; }
  int tags() const override { return 1 << 30; }

  void send_frame(int to, const Frame& frame) override {
    const std::lock_guard lock(network_.mutex_);
    if (network_.silent_[rank()] || !network_.lost_[rank()].empty()) return;
    network_.frames_[to].push_back({rank(), "", frame});
    ++network_.frames_sent_[rank()];
    network_.inboxes_[to].frame_came.notify_all();
  }

  std::optional<Arrival> next_frame(std::chrono::milliseconds patience) override {
    std::unique_lock lock(network_.mutex_);
    auto& frames = network_.frames_[rank()];
    network_.inboxes_[rank()].frame_came.wait_for(lock, patience, [&] { return !frames.empty(); });
    if (frames.empty()) return std::nullopt;
    Arrival arrival = frames.front();
    frames.pop_front();
    return arrival;
  }

  std::unique_ptr<message::Transfer> begin(int tag, std::span<const Chunk> sends,
                                           std::span<const Chunk> receives) override {
    const std::lock_guard lock(network_.mutex_);
    for (const Chunk& chunk : sends) {
      auto& stream = network_.streams_[{rank(), chunk.peer, tag}];
      const char* data = static_cast<const char*>(chunk.data);
      stream.chunks[stream.sent++].assign(data, data + chunk.bytes);
      network_.bytes_sent_[rank()] += static_cast<std::int64_t>(chunk.bytes);
      network_.inboxes_[chunk.peer].chunk_came.notify_all();
    }
    std::vector<InProcessTransfer::Expected> expected;
    for (const Chunk& chunk : receives) {
      auto& stream = network_.streams_[{chunk.peer, rank(), tag}];
      expected.push_back({chunk, stream.expected++});
    }
    return std::make_unique<InProcessTransfer>(network_, rank(), tag, std::move(expected));
  }

 private:
  Network& network_;
};

Network::Network(int ranks)
    : inboxes_(ranks),
      frames_(ranks),
      lost_(ranks),
      silent_(ranks),
      bytes_sent_(ranks),
      frames_sent_(ranks) {}

std::unique_ptr<message::Transport> Network::transport(int rank) {
  return std::make_unique<InProcessTransport>(*this, rank);
}

void Network::kill(int rank, const std::string& why) {
  const std::lock_guard lock(mutex_);
  lost_[rank] = why;
  for (std::size_t peer = 0; peer < frames_.size(); ++peer) {
    if (static_cast<int>(peer) != rank) frames_[peer].push_back({rank, why, {}});
  }
  for (Inbox& inbox : inboxes_) {
    inbox.frame_came.notify_all();
    inbox.chunk_came.notify_all();
  }
}

void Network::silence(int rank) {
  const std::lock_guard lock(mutex_);
  silent_[rank] = 1;
}

std::int64_t Network::bytes_sent(int rank) const {
  const std::lock_guard lock(mutex_);
  return bytes_sent_[rank];
}

std::int64_t Network::frames_sent(int rank) const {
  const std::lock_guard lock(mutex_);
  return frames_sent_[rank];
}

}  // namespace trireme::test
