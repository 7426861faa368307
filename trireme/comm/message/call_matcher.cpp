#include "trireme/comm/message/call_matcher.h"

#include <utility>

namespace trireme::message {

void CallMatcher::add(int rank, const Frame& frame) {
  Announcements& announcements = announcements_[frame.header.number];
  if (announcements.frames.empty()) announcements.frames.resize(static_cast<std::size_t>(ranks_));
  announcements.frames[static_cast<std::size_t>(rank)] = frame;
  ++announcements.count;
}

bool CallMatcher::is_complete(std::uint64_t number) const {
  if (matched_ + 1 < number) return false;
  const auto found = announcements_.find(number);
  return found != announcements_.end() && found->second.count == ranks_;
}

std::vector<Frame> CallMatcher::match(std::uint64_t number) {
  const auto found = announcements_.find(number);
  std::vector<Frame> frames = std::move(found->second.frames);
  announcements_.erase(found);
  std::vector<CallOfRank> calls;
  for (int rank = 0; rank < ranks_; ++rank) {
    const Frame::Header& header = frames[static_cast<std::size_t>(rank)].header;
    calls.push_back({rank, header.call, header.site});
  }
  require_agreement(calls, number - setup_operations_);
  matched_ = number;
  return frames;
}

}  // namespace trireme::message
