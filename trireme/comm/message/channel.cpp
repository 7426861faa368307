#include "trireme/comm/message/channel.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace trireme::message {

Channel::Channel(std::shared_ptr<FrameDispatcher> dispatcher, std::uint32_t number, int rank,
                 std::vector<int> world_ranks, std::chrono::milliseconds timeout)
    : dispatcher_(std::move(dispatcher)),
      number_(number),
      rank_(rank),
      world_ranks_(std::move(world_ranks)),
      timeout_(timeout) {}

int Channel::rank_of(int world_rank) const {
  const auto found = std::ranges::find(world_ranks_, world_rank);
  return found == world_ranks_.end() ? -1 : static_cast<int>(found - world_ranks_.begin());
}

std::vector<std::string> Channel::names() const {
  std::vector<std::string> names;
  for (int rank = 0; rank < size(); ++rank) {
    const int world_rank = world_ranks_[static_cast<std::size_t>(rank)];
    names.push_back(world_rank == rank
                        ? fmt::format("rank {}", rank)
                        : fmt::format("rank {} (rank {} of the world)", rank, world_rank));
  }
  return names;
}

void Channel::send(int to, Frame frame) {
  frame.header.channel = number_;
  transmit(to, frame);
}

void Channel::send_to_all(Frame frame) {
  frame.header.channel = number_;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank_) transmit(peer, frame);
  }
}

void Channel::transmit(int to, const Frame& frame) {
  transfers_.count({static_cast<std::int64_t>(frame.bytes()), 0});
  transport().send_frame(world_ranks_[static_cast<std::size_t>(to)], frame);
}

Exchange Channel::exchange(int tag, std::span<const int> world_ranks, int rank) {
  return Exchange(transport(), transfers_, static_cast<int>(number_) * kTags + tag, world_ranks,
                  rank, deadline());
}

}  // namespace trireme::message
