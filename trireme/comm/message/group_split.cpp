#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/comm/heap_block.h"
#include "trireme/comm/message/group.h"

// What a Group makes: memory and other Groups.
namespace trireme::message {

Memory Group::do_allocate(std::size_t bytes, Where where) {
  Operation operation;
  operation.kind = OpKind::kAllocate;
  operation.where = where;
  start(operation).wait();
  return Memory(std::make_unique<HeapBlock>(bytes, rank()));
}

// One word from each rank, in rank order.
std::vector<std::uint64_t> Group::gather_words(std::uint64_t word, Where where) {
  std::vector<std::uint64_t> words(size());
  Operation operation;
  operation.kind = OpKind::kSplit;
  operation.dtype = DType::kU8;
  operation.count = sizeof(word);
  operation.in = {&word, sizeof(word), DType::kU8};
  operation.out = {words.data(), static_cast<std::int64_t>(size() * sizeof(word)), DType::kU8};
  operation.where = where;
  start(operation).wait();
  return words;
}

// A channel that is free on every rank. Splits of other communicators may be under way at once.
std::uint32_t Group::agree_on_channel(Where where) {
  for (;;) {
    const auto proposals = gather_words(hub_->propose(), where);
    const auto channel =
        static_cast<std::uint32_t>(*std::max_element(proposals.begin(), proposals.end()));
    const bool mine = hub_->reserve(channel);
    const auto reserved = gather_words(mine ? 1 : 0, where);
    if (std::count(reserved.begin(), reserved.end(), 1) == size()) return channel;
    if (mine) hub_->give_back(channel);
  }
}

Group::Part Group::agree_on_part(int color, int key, Where where) {
  const auto choices =
      gather_words(static_cast<std::uint64_t>(static_cast<std::uint32_t>(color)) << 32 |
                       static_cast<std::uint32_t>(key),
                   where);
  Part part;
  part.channel = agree_on_channel(where);
  if (static_cast<int>(part.channel) >= hub_->transport().tags() / kTags) {
    throw UsageError(fmt::format(
        "split: {} has tags for {} communicators, this would be number {} (rank {} of {})",
        hub_->transport().name(), hub_->transport().tags() / kTags, part.channel + 1, rank(),
        size()));
  }
  if (color < 0) return part;
  for (int peer = 0; peer < size(); ++peer) {
    if (static_cast<std::int32_t>(choices[peer] >> 32) == color) part.ranks.push_back(peer);
  }
  std::stable_sort(part.ranks.begin(), part.ranks.end(), [&](int a, int b) {
    return static_cast<std::int32_t>(choices[a]) < static_cast<std::int32_t>(choices[b]);
  });
  for (const int peer : part.ranks) {
    if (peer == rank()) part.rank = static_cast<int>(part.world_ranks.size());
    part.world_ranks.push_back(world_ranks_[peer]);
  }
  return part;
}

std::unique_ptr<Communicator> Group::do_split(int color, int key, Where where) {
  Part part = agree_on_part(color, key, where);
  if (part.ranks.empty()) return nullptr;
  std::unique_ptr<Group> group(
      new Group(hub_, part.channel, part.rank, std::move(part.world_ranks), options_));
  group->start_lanes();
  return group;
}

}  // namespace trireme::message
