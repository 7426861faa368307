#include "trireme/comm/message/peer_states.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace trireme::message {

PeerStates::PeerStates(int rank, std::vector<std::string> names, Time now)
    : rank_(rank), states_(names.size()) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    states_[i].name = std::move(names[i]);
    states_[i].last_heard = now;
  }
}

void PeerStates::called(int rank, const Frame::Header& header) {
  State& state = of(rank);
  state.last_call = header;
  state.has_called = true;
  if (header.kind == FrameKind::kAnnouncement) state.last_announced = header.number;
}

void PeerStates::left(int rank, Time now) {
  if (!of(rank).left_at) of(rank).left_at = now;
}

void PeerStates::lost(int rank, const std::string& why) {
  of(rank).is_lost = true;
  of(rank).why_lost = why;
}

template <class Condition>
int PeerStates::first(Condition condition) const {
  const auto found = std::ranges::find_if(states_, condition);
  return found == states_.end() ? -1 : static_cast<int>(found - states_.begin());
}

int PeerStates::first_lost() const {
  return first([](const State& state) { return state.is_lost; });
}

int PeerStates::first_missing(std::uint64_t number) const {
  return first([&](const State& state) { return state.last_announced < number; });
}

int PeerStates::first_gone(std::uint64_t number) const {
  return first([&](const State& state) {
    return state.is_lost || (state.left_at && state.last_announced < number);
  });
}

int PeerStates::likely_failed(int rank, std::uint64_t number, Time now) const {
  int silent = -1;
  Time heard = now - kSilence;
  for (int other = 0; other < static_cast<int>(states_.size()); ++other) {
    const State& state = of(other);
    const bool is_gone = state.is_lost || state.left_at;
    if (other == rank_ || is_gone || state.last_heard > heard) continue;
    heard = state.last_heard;
    silent = other;
  }
  if (silent < 0) return rank;
  const bool is_behind =
      number > 0 && has_announced(silent, number) && !has_announced(rank, number);
  return is_behind ? rank : silent;
}

std::optional<std::string> PeerStates::why_gone(int rank) const {
  const State& state = of(rank);
  if (state.is_lost) return fmt::format("{} is lost: {}", state.name, state.why_lost);
  if (state.left_at) return fmt::format("{} has left", state.name);
  return std::nullopt;
}

std::string PeerStates::describe_last_sign(int rank, Time now) const {
  const State& state = of(rank);
  std::string text = "it has made no call";
  if (state.has_called) {
    const std::uint64_t number = state.last_call.number;
    text = fmt::format("its last call was {} (operation {})",
                       describe(state.last_call.call, state.last_call.site),
                       number - std::min(number, setup_operations_));
  }
  const auto silence = now - state.last_heard;
  if (silence < kSilence) return text + "; its process is running";
  return fmt::format("{}; nothing has been heard of it for {} s: stopped, or out of reach", text,
                     std::chrono::duration_cast<std::chrono::seconds>(silence).count());
}

}  // namespace trireme::message
