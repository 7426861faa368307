#include "trireme/comm/traffic.h"

#include "trireme/base/partition.h"
#include "trireme/comm/operation.h"

namespace trireme {

namespace {

Traffic of_sum(const Operation& operation, std::int64_t bytes, int ranks, int rank) {
  const auto mine = static_cast<std::int64_t>(operation.tree->nodes_of(rank).size());
  const auto all = static_cast<std::int64_t>(operation.tree->terms().size());
  const std::int64_t slice = partition(bytes, ranks, rank).size();
  const std::int64_t others = bytes - slice;
  Traffic traffic{mine * others, (all - mine) * slice};
  if (operation.kind == OpKind::kAllReduce) {
    traffic += {(ranks - 1) * slice, others};
  } else if (rank == operation.root) {
    traffic.received += others;
  } else {
    traffic.sent += slice;
  }
  return traffic;
}

}  // namespace

Traffic data_of(const Operation& operation, int ranks, int rank) {
  const std::int64_t bytes = operation.count * static_cast<std::int64_t>(size_of(operation.dtype));
  const std::int64_t to_all = (ranks - 1) * bytes;
  const bool is_root = rank == operation.root;
  switch (operation.kind) {
    case OpKind::kAllReduce:
    case OpKind::kReduce:
      return of_sum(operation, bytes, ranks, rank);
    case OpKind::kReduceScatter:
    case OpKind::kAllGather:
    case OpKind::kAllToAll:
      return {to_all, to_all};
    case OpKind::kBroadcast:
    case OpKind::kScatter:
      return is_root ? Traffic{to_all, 0} : Traffic{0, bytes};
    case OpKind::kGather:
      return is_root ? Traffic{0, to_all} : Traffic{bytes, 0};
    case OpKind::kSend:
      return {is_root ? 0 : bytes, 0};
    case OpKind::kRecv:
      return {0, is_root ? 0 : bytes};
    case OpKind::kBarrier:
    case OpKind::kAllocate:
    case OpKind::kSplit:
      return {};
  }
  return {};
}

}  // namespace trireme
