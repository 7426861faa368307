#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/comm/heap_block.h"
#include "trireme/comm/message/group.h"

// The functions of Group that make memory and other groups.
namespace trireme::message {

Memory Group::do_allocate(std::size_t bytes, SourceLocation where) {
  Operation operation;
  operation.kind = OpKind::kAllocate;
  operation.where = where;
  start(operation).wait();
  return Memory(std::make_unique<HeapBlock>(bytes, rank()));
}

std::vector<std::uint64_t> Group::gather_words(std::uint64_t word, SourceLocation where) {
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

// Finds a channel that is free on every rank. Other communicators may be split at the same time.
std::uint32_t Group::agree_on_channel(SourceLocation where) {
  FrameDispatcher& dispatcher = *channel_.dispatcher();
  for (;;) {
    const auto proposals = gather_words(dispatcher.propose(), where);
    const auto channel =
        static_cast<std::uint32_t>(*std::max_element(proposals.begin(), proposals.end()));
    const bool mine = dispatcher.reserve(channel);
    const auto reserved = gather_words(mine ? 1 : 0, where);
    if (std::count(reserved.begin(), reserved.end(), 1) == size()) return channel;
    if (mine) dispatcher.give_back(channel);
  }
}

Group::Part Group::agree_on_part(int color, int key, SourceLocation where) {
  const auto choices =
      gather_words(static_cast<std::uint64_t>(static_cast<std::uint32_t>(color)) << 32 |
                       static_cast<std::uint32_t>(key),
                   where);
  Part part;
  part.channel = agree_on_channel(where);
  const Transport& transport = channel_.transport();
  if (const int limit = transport.tags() / Channel::kTags;
      std::cmp_greater_equal(part.channel, limit)) {
    throw UsageError(fmt::format(
        "split: {} has tags for {} communicators, this would be number {} (rank {} of {})",
        transport.name(), limit, part.channel + 1, rank(), size()));
  }
  if (color < 0) return part;
  for (int peer = 0; peer < size(); ++peer) {
    if (static_cast<std::int32_t>(choices[peer] >> 32) == color) part.ranks.push_back(peer);
  }
  std::stable_sort(part.ranks.begin(), part.ranks.end(), [&](int a, int b) {
    return static_cast<std::int32_t>(choices[a]) < static_cast<std::int32_t>(choices[b]);
  });
  part.rank = static_cast<int>(std::ranges::find(part.ranks, rank()) - part.ranks.begin());
  return part;
}

std::unique_ptr<Group> Group::make_group(const Part& part) {
  std::vector<int> world_ranks;
  for (const int peer : part.ranks) world_ranks.push_back(channel_.world_ranks()[peer]);
  return std::unique_ptr<Group>(
      new Group(channel_.dispatcher(), part.channel, part.rank, std::move(world_ranks), options_));
}

std::unique_ptr<Communicator> Group::do_split(int color, int key, SourceLocation where) {
  const Part part = agree_on_part(color, key, where);
  return part.ranks.empty() ? nullptr : make_group(part);
}

}  // namespace trireme::message
