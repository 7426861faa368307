#include "trireme/comm/communicator.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/comm/call_scope.h"
#include "trireme/comm/device_lane.h"
#include "trireme/comm/semantics.h"

namespace trireme {

namespace {

// Copying it is faster than initializing an Operation, for which compilers use a slow string
// instruction.
constinit const Operation kDefaultOperation;

Operation make(OpKind kind, const Buffer& out, const Buffer& in, std::int64_t count,
               SourceLocation where) {
  Operation operation = kDefaultOperation;
  operation.where = place_in_scope(where);
  operation.kind = kind;
  operation.dtype = in.dtype;
  operation.device = in.device.kind;
  operation.count = count;
  operation.in = in;
  operation.out = out;
  return operation;
}

// Adds numbers that ranks must agree on to the hash, one after another.
void add_to_layout(Operation& operation, std::int64_t number) {
  const std::uint64_t before = std::uint64_t{operation.layout} << 32 | 1;
  operation.layout =
      static_cast<std::uint32_t>(mix_bits(mix_bits(before) ^ static_cast<std::uint64_t>(number)));
}

bool has_one_leaf_a_rank(const ReductionTree& tree) {
  for (int rank = 0; rank < tree.ranks(); ++rank) {
    if (tree.virtual_workers_of(rank).size() != 1) return false;
  }
  return true;
}

Operation reduction(OpKind kind, const Buffer& out, const Buffer& in, std::int64_t count,
                    ReduceOp op, const ReductionTree& tree, SourceLocation where) {
  Operation operation = make(kind, out, in, count, where);
  // To backends a mean is a sum with a divisor.
  operation.op = op == ReduceOp::kMean ? ReduceOp::kSum : op;
  operation.divisor = op == ReduceOp::kMean ? tree.virtual_workers() : 1;
  operation.tree = &tree;
  if (has_one_leaf_a_rank(tree)) return operation;
  operation.virtual_workers = tree.virtual_workers();
  for (int rank = 0; rank < tree.ranks(); ++rank) {
    add_to_layout(operation, tree.virtual_workers_of(rank).end);
  }
  return operation;
}

// For calls in which all ranks give the same counts.
void set_pieces(Operation& operation, Pieces pieces, std::span<const std::int64_t> counts) {
  operation.uneven = true;
  operation.pieces = std::make_shared<const Pieces>(std::move(pieces));
  operation.count = 0;
  for (const std::int64_t count : counts) {
    operation.count = std::max(operation.count, count);
    add_to_layout(operation, count);
  }
}

// The number of a piece of `count` elements that goes from one rank to another.
std::uint32_t number_of_piece(int from, int to, std::int64_t count) {
  const auto pair = static_cast<std::uint64_t>(from) << 32 | static_cast<std::uint64_t>(to);
  return static_cast<std::uint32_t>(
      mix_bits(mix_bits(pair + 1) ^ static_cast<std::uint64_t>(count)));
}

// The ranges of pieces that follow one another.
std::vector<Range> ranges_of(std::span<const std::int64_t> counts) {
  std::vector<Range> ranges;
  std::int64_t begin = 0;
  for (const std::int64_t count : counts) {
    ranges.push_back({begin, begin + count});
    begin += count;
  }
  return ranges;
}

Operation rooted(Operation operation, int root) {
  operation.root = root;
  return operation;
}

}  // namespace

Communicator::Communicator(int rank, int size) : rank_(rank), size_(size), tree_(size, size) {}

Communicator::~Communicator() = default;

void Communicator::check_rank(const char* call, const char* what, int rank) const {
  if (rank >= 0 && rank < size_) return;
  throw UsageError(fmt::format("{}: {} must be a rank in [0, {}), got {} (rank {} of {})", call,
                               what, size_, rank, rank_, size_));
}

void Communicator::check_buffer(const char* call, const char* what, const Buffer& x) const {
  if (x.count < 0) {
    throw UsageError(fmt::format("{}: {} must hold 0 or more elements, got {} (rank {} of {})",
                                 call, what, x.count, rank_, size_));
  }
  if (x.count > 0 && x.data == nullptr) {
    throw UsageError(fmt::format("{}: {} must point to {} elements, got null (rank {} of {})", call,
                                 what, x.count, rank_, size_));
  }
}

void Communicator::check_count(const char* call, const char* what, const Buffer& x,
                               std::int64_t count) const {
  check_buffer(call, what, x);
  if (x.count == count) return;
  throw UsageError(fmt::format("{}: {} must hold {} elements, got {} (rank {} of {})", call, what,
                               count, x.count, rank_, size_));
}

void Communicator::check_alike(const char* call, const Buffer& out, const Buffer& in) const {
  if (out.dtype != in.dtype) {
    throw UsageError(fmt::format("{}: out and in must have one type, got {} and {} (rank {} of {})",
                                 call, name_of(out.dtype), name_of(in.dtype), rank_, size_));
  }
  if (out.device != in.device) {
    throw UsageError(
        fmt::format("{}: out and in must lie on one device, got {} and {} (rank {} of "
                    "{})",
                    call, name_of(out.device), name_of(in.device), rank_, size_));
  }
}

void Communicator::check_op(const char* call, const Buffer& x, ReduceOp op) const {
  if (op != ReduceOp::kMean || is_floating(x.dtype)) return;
  throw UsageError(fmt::format("{}: a mean must be of floating point, got {} (rank {} of {})", call,
                               name_of(x.dtype), rank_, size_));
}

// `allowed`: the element of the longer buffer at which the shorter one may begin, or -1.
void Communicator::check_apart(const char* call, const Buffer& out, const Buffer& in,
                               std::int64_t allowed) const {
  if (out.count == 0 || in.count == 0) return;
  const Buffer& longer = out.count > in.count ? out : in;
  const Buffer& shorter = out.count > in.count ? in : out;
  const char* begin = longer.as<char>();
  const char* other = shorter.as<char>();
  if (allowed >= 0 && other == longer.slice(allowed, 0).as<char>()) return;
  if (other >= begin + longer.bytes() || begin >= other + shorter.bytes()) return;
  throw UsageError(fmt::format("{}: out and in must not overlap{} (rank {} of {})", call,
                               allowed < 0 ? "" : ", unless one is this rank's piece of the other",
                               rank_, size_));
}

void Communicator::check_tree(const char* call, const ReductionTree& tree) const {
  if (tree.ranks() == size_) return;
  throw UsageError(fmt::format("{}: the tree must be over {} ranks, got {} (rank {} of {})", call,
                               size_, tree.ranks(), rank_, size_));
}

void Communicator::check_counts(const char* call, const char* what,
                                std::span<const std::int64_t> counts) const {
  if (std::ssize(counts) != size_) {
    throw UsageError(
        fmt::format("{}: {} must have one count for each of {} ranks, got {} (rank {} "
                    "of {})",
                    call, what, size_, counts.size(), rank_, size_));
  }
  for (int rank = 0; rank < size_; ++rank) {
    if (counts[rank] >= 0) continue;
    throw UsageError(fmt::format("{}: {}[{}] must be 0 or more, got {} (rank {} of {})", call, what,
                                 rank, counts[rank], rank_, size_));
  }
}

DeviceLane& Communicator::device_lane(const char* call) const {
  if (device_lane_) return *device_lane_;
  throw UsageError(fmt::format(
      "{}: the data lies on a CUDA device, which takes a build of trireme with NCCL and a "
      "communicator of connect(); copy it to the CPU first (rank {} of {})",
      call, rank_, size_));
}

void Communicator::refuse_second_thread(const char* call) const {
  throw UsageError(fmt::format(
      "{}: another thread is inside a call of this communicator (rank {} of {}); use it "
      "from one thread at a time, and give each thread one of its own by split()",
      call, rank_, size_));
}

Work Communicator::begin(const Operation& operation) {
  const Use use(*this, semantics_of(operation.kind).name.data());
  const bool is_of_process = operation.device == Device::kCpu;
  if (is_of_process && !device_lane_) return start(operation);
  DeviceLane& lane = device_lane(semantics_of(operation.kind).name.data());
  if (!is_of_process) lane.check(operation);
  Operation watched = operation;
  if (operation.kind == OpKind::kRecv) watched.sender = std::make_shared<MatchedSend>();
  Work matched = start(watched);
  return is_of_process ? lane.watch(watched, std::move(matched))
                       : lane.start(watched, std::move(matched));
}

Work DeviceLane::start_in(Communicator& communicator, const Operation& operation) {
  return communicator.start(operation);
}

void Communicator::carry_devices(std::unique_ptr<DeviceLane> lane) {
  device_lane_ = std::move(lane);
}

void Communicator::progress() {
  const Use use(*this, "progress");
  do_progress();
  if (device_lane_) device_lane_->progress();
}

Traffic Communicator::traffic() const {
  return device_lane_ ? own_traffic() + device_lane_->traffic() : own_traffic();
}

Memory Communicator::allocate(std::size_t bytes, SourceLocation where) {
  const Use use(*this, "allocate");
  return do_allocate(bytes, place_in_scope(where));
}

Memory Communicator::allocate(std::size_t bytes, Device device, SourceLocation where) {
  const Use use(*this, "allocate");
  if (device == Device::kCpu) return do_allocate(bytes, place_in_scope(where));
  DeviceLane& lane = device_lane("allocate");
  do_allocate(0, place_in_scope(where));
  return lane.allocate(bytes);
}

Work Communicator::all_reduce(Buffer x, ReduceOp op, SourceLocation where) {
  check_buffer("all_reduce", "x", x);
  check_op("all_reduce", x, op);
  return begin(reduction(OpKind::kAllReduce, x, x, x.count, op, tree_, where));
}

Work Communicator::all_reduce(Buffer x, const ReductionTree& tree, double divisor,
                              SourceLocation where) {
  check_buffer("all_reduce", "x", x);
  require_divisor("all_reduce", divisor, x.dtype);
  check_tree("all_reduce", tree);
  // A rank without virtual workers still needs a row for the result.
  const auto rows = std::max<std::int64_t>(1, std::ssize(tree.nodes_of(rank_)));
  if (x.count % rows != 0) {
    throw UsageError(fmt::format("all_reduce: x must hold {} rows, got {} elements (rank {} of {})",
                                 rows, x.count, rank_, size_));
  }
  Operation operation =
      reduction(OpKind::kAllReduce, x, x, x.count / rows, ReduceOp::kSum, tree, where);
  operation.divisor = divisor;
  return begin(operation);
}

Work Communicator::reduce_scatter(Buffer out, Buffer in, ReduceOp op, SourceLocation where) {
  check_op("reduce_scatter", in, op);
  const double divisor = op == ReduceOp::kMean ? size_ : 1;
  return scatter_sum(out, in, op, tree_, divisor, {}, where);
}

Work Communicator::reduce_scatter(Buffer out, Buffer in, std::span<const std::int64_t> counts,
                                  ReduceOp op, SourceLocation where) {
  check_op("reduce_scatter", in, op);
  check_counts("reduce_scatter", "counts", counts);
  const double divisor = op == ReduceOp::kMean ? size_ : 1;
  return scatter_sum(out, in, op, tree_, divisor, counts, where);
}

Work Communicator::reduce_scatter(Buffer out, Buffer in, const ReductionTree& tree, double divisor,
                                  std::span<const std::int64_t> counts, SourceLocation where) {
  require_divisor("reduce_scatter", divisor, in.dtype);
  check_tree("reduce_scatter", tree);
  if (!counts.empty()) check_counts("reduce_scatter", "counts", counts);
  return scatter_sum(out, in, ReduceOp::kSum, tree, divisor, counts, where);
}

// Without `counts` all pieces are equal.
Work Communicator::scatter_sum(Buffer out, Buffer in, ReduceOp op, const ReductionTree& tree,
                               double divisor, std::span<const std::int64_t> counts,
                               SourceLocation where) {
  constexpr const char* kCall = "reduce_scatter";
  check_buffer(kCall, "out", out);
  check_alike(kCall, out, in);
  Operation operation = reduction(OpKind::kReduceScatter, out, in, out.count, op, tree, where);
  operation.divisor = divisor;
  if (!counts.empty()) {
    check_count(kCall, "out", out, counts[rank_]);
    set_pieces(operation, {.in = ranges_of(counts)}, counts);
  }
  const std::int64_t length = operation.in_piece(size_ - 1).end;
  check_count(kCall, "in", in, std::ssize(tree.nodes_of(rank_)) * length);
  check_apart(kCall, out, in, operation.in_piece(rank_).begin);
  return begin(operation);
}

Work Communicator::all_gather(Buffer out, Buffer in, SourceLocation where) {
  check_buffer("all_gather", "in", in);
  check_alike("all_gather", out, in);
  check_count("all_gather", "out", out, size_ * in.count);
  check_apart("all_gather", out, in, rank_ * in.count);
  return begin(make(OpKind::kAllGather, out, in, in.count, where));
}

Work Communicator::all_gather(Buffer out, Buffer in, std::span<const std::int64_t> counts,
                              SourceLocation where) {
  check_counts("all_gather", "counts", counts);
  check_alike("all_gather", out, in);
  check_count("all_gather", "in", in, counts[rank_]);
  Pieces pieces{.out = ranges_of(counts)};
  check_count("all_gather", "out", out, pieces.out.back().end);
  check_apart("all_gather", out, in, pieces.out[rank_].begin);
  Operation operation = make(OpKind::kAllGather, out, in, 0, where);
  set_pieces(operation, std::move(pieces), counts);
  return begin(operation);
}

Work Communicator::all_to_all(Buffer out, std::span<const std::int64_t> out_counts, Buffer in,
                              std::span<const std::int64_t> in_counts, SourceLocation where) {
  check_counts("all_to_all", "out_counts", out_counts);
  check_counts("all_to_all", "in_counts", in_counts);
  check_alike("all_to_all", out, in);
  Pieces pieces{ranges_of(in_counts), ranges_of(out_counts)};
  check_count("all_to_all", "in", in, pieces.in.back().end);
  check_count("all_to_all", "out", out, pieces.out.back().end);
  check_apart("all_to_all", out, in, -1);
  Operation operation = make(OpKind::kAllToAll, out, in, in.count, where);
  operation.uneven = true;
  for (int peer = 0; peer < size_; ++peer) {
    operation.layout += number_of_piece(rank_, peer, in_counts[peer]);
    operation.layout -= number_of_piece(peer, rank_, out_counts[peer]);
  }
  operation.pieces = std::make_shared<const Pieces>(std::move(pieces));
  return begin(operation);
}

Work Communicator::all_to_all(Buffer out, Buffer in, SourceLocation where) {
  check_buffer("all_to_all", "in", in);
  check_alike("all_to_all", out, in);
  check_count("all_to_all", "out", out, in.count);
  if (in.count % size_ != 0) {
    throw UsageError(fmt::format(
        "all_to_all: in must hold one piece for each of {} ranks, got {} elements (rank {} of {})",
        size_, in.count, rank_, size_));
  }
  check_apart("all_to_all", out, in, -1);
  return begin(make(OpKind::kAllToAll, out, in, in.count / size_, where));
}

Work Communicator::broadcast(Buffer x, int root, SourceLocation where) {
  check_rank("broadcast", "root", root);
  check_buffer("broadcast", "x", x);
  return begin(rooted(make(OpKind::kBroadcast, x, x, x.count, where), root));
}

Work Communicator::reduce(Buffer x, int root, ReduceOp op, SourceLocation where) {
  check_rank("reduce", "root", root);
  check_buffer("reduce", "x", x);
  check_op("reduce", x, op);
  return begin(rooted(reduction(OpKind::kReduce, x, x, x.count, op, tree_, where), root));
}

Work Communicator::gather(Buffer out, Buffer in, int root, SourceLocation where) {
  check_rank("gather", "root", root);
  check_buffer("gather", "in", in);
  if (rank_ == root) {
    check_alike("gather", out, in);
    check_count("gather", "out", out, size_ * in.count);
    check_apart("gather", out, in, rank_ * in.count);
  }
  return begin(rooted(make(OpKind::kGather, out, in, in.count, where), root));
}

Work Communicator::scatter(Buffer out, Buffer in, int root, SourceLocation where) {
  check_rank("scatter", "root", root);
  check_buffer("scatter", "out", out);
  if (rank_ == root) {
    check_alike("scatter", out, in);
    check_count("scatter", "in", in, size_ * out.count);
    check_apart("scatter", out, in, rank_ * out.count);
  }
  in.dtype = out.dtype;
  in.device = out.device;
  return begin(rooted(make(OpKind::kScatter, out, in, out.count, where), root));
}

Work Communicator::send(Buffer x, int to, int tag, SourceLocation where) {
  check_rank("send", "the receiver", to);
  check_buffer("send", "x", x);
  Operation operation = rooted(make(OpKind::kSend, x, x, x.count, where), to);
  operation.tag = tag;
  return begin(operation);
}

Work Communicator::recv(Buffer x, int from, int tag, SourceLocation where) {
  check_rank("recv", "the sender", from);
  check_buffer("recv", "x", x);
  Operation operation = rooted(make(OpKind::kRecv, x, x, x.count, where), from);
  operation.tag = tag;
  return begin(operation);
}

void Communicator::barrier(SourceLocation where) {
  begin(make(OpKind::kBarrier, {}, {}, 0, where)).wait();
}

void Communicator::barrier(std::chrono::milliseconds timeout, SourceLocation where) {
  if (timeout.count() <= 0) {
    throw UsageError(fmt::format("barrier: the timeout must be positive, got {} ms (rank {} of {})",
                                 timeout.count(), rank_, size_));
  }
  Operation operation = make(OpKind::kBarrier, {}, {}, 0, where);
  operation.timeout = timeout;
  begin(operation).wait();
}

std::unique_ptr<Communicator> Communicator::group(std::span<const int> ranks,
                                                  SourceLocation where) {
  int key = -1;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    check_rank("group", "each of ranks", ranks[i]);
    if (ranks[i] == rank_) key = static_cast<int>(i);
    if (std::find(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(i), ranks[i]) ==
        ranks.begin() + static_cast<std::ptrdiff_t>(i)) {
      continue;
    }
    throw UsageError(fmt::format("group: ranks must be different, got {} twice (rank {} of {})",
                                 ranks[i], rank_, size_));
  }
  auto group = split(key < 0 ? -1 : ranks[0], key, where);
  if (group && (group->size() != std::ssize(ranks) || group->rank() != key)) {
    throw UsageError(
        fmt::format("group: all of the ranks {} must give this list, {} did (rank {} of {})",
                    fmt::join(ranks, ", "), group->size(), rank_, size_));
  }
  return group;
}

std::unique_ptr<Communicator> Communicator::split(int color, int key, SourceLocation where) {
  const Use use(*this, "split");
  auto part = do_split(color, key, place_in_scope(where));
  if (part && device_lane_) part->carry_devices(device_lane_->lane_of(*part));
  return part;
}

}  // namespace trireme
