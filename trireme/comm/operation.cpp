#include "trireme/comm/operation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"

namespace trireme {

std::string_view name_of(OpKind kind) {
  switch (kind) {
    case OpKind::kAllReduce:
      return "all_reduce";
    case OpKind::kReduceScatter:
      return "reduce_scatter";
    case OpKind::kAllGather:
      return "all_gather";
    case OpKind::kAllToAll:
      return "all_to_all";
    case OpKind::kBroadcast:
      return "broadcast";
    case OpKind::kReduce:
      return "reduce";
    case OpKind::kGather:
      return "gather";
    case OpKind::kScatter:
      return "scatter";
    case OpKind::kSend:
      return "send";
    case OpKind::kRecv:
      return "recv";
    case OpKind::kBarrier:
      return "barrier";
    case OpKind::kAllocate:
      return "allocate";
    case OpKind::kSplit:
      return "split";
  }
  return "?";
}

namespace {

// "sum", "sum / 12".
std::string reduction_of(const Call& call) {
  std::string text(name_of(call.op));
  if (call.divisor != 1) text += fmt::format(" / {}", call.divisor);
  return text;
}

}  // namespace

std::string describe(const Call& call) {
  std::string arguments = fmt::format("{}[{}]", name_of(call.dtype), call.count);
  if (call.device != Device::kCpu) arguments += fmt::format(" on {}", name_of(call.device));
  switch (call.kind) {
    case OpKind::kAllReduce:
    case OpKind::kReduceScatter:
      arguments += ", " + reduction_of(call);
      break;
    case OpKind::kReduce:
      arguments += fmt::format(", {}, root {}", reduction_of(call), call.root);
      break;
    case OpKind::kBroadcast:
    case OpKind::kGather:
    case OpKind::kScatter:
      arguments += fmt::format(", root {}", call.root);
      break;
    case OpKind::kSend:
      arguments += fmt::format(", to {}, tag {}", call.root, call.tag);
      break;
    case OpKind::kRecv:
      arguments += fmt::format(", from {}, tag {}", call.root, call.tag);
      break;
    case OpKind::kAllGather:
    case OpKind::kAllToAll:
      break;
    case OpKind::kBarrier:
    case OpKind::kAllocate:
    case OpKind::kSplit:
      arguments.clear();
      break;
  }
  if (call.leaves > 0) arguments += fmt::format(", {} virtual workers", call.leaves);
  return fmt::format("{}({})", name_of(call.kind), arguments);
}

CallSite::CallSite(Where where) : line(where.line) {
  std::string_view name = where.file;
  if (const auto slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
  if (name.size() >= sizeof(file)) name.remove_prefix(name.size() - sizeof(file) + 1);
  std::memcpy(file, name.data(), name.size());
}

std::string describe(const Call& call, const CallSite& site) {
  if (site.line == 0) return describe(call);
  return fmt::format("{} at {}:{}", describe(call), site.file, site.line);
}

int units_of(const Operation& operation, int ranks, int rank) {
  switch (operation.kind) {
    case OpKind::kAllReduce:
    case OpKind::kReduce:
      return static_cast<int>(operation.tree->nodes_of(rank).size());
    case OpKind::kReduceScatter:
    case OpKind::kAllToAll:
    case OpKind::kScatter:
      return ranks;
    default:
      return 1;
  }
}

int most_units(const Operation& operation, int ranks) {
  int most = units_of(operation, ranks, 0);
  if (operation.leaves == 0) return most;
  for (int rank = 1; rank < ranks; ++rank) {
    most = std::max(most, units_of(operation, ranks, rank));
  }
  return most;
}

void throw_mismatch(CallOfRank first, CallOfRank other, std::uint64_t number) {
  throw UsageError(
      fmt::format("{} mismatch: rank {} called {}, rank {} called {}: all ranks must make the same "
                  "calls in the "
                  "same order (operation {})",
                  name_of(first.call.kind), first.rank, describe(first.call, first.site),
                  other.rank, describe(other.call, other.site), number));
}

}  // namespace trireme
