#include "tests/nccl/fake_nccl.h"

#include <fmt/format.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

#include "tests/nccl/fake_cuda.h"
#include "trireme/base/buffer.h"
#include "trireme/kernels/reduce.h"

namespace {

using namespace std::chrono_literals;
using trireme::DType;
using trireme::ReduceOp;
using trireme::test::fake::NcclFaults;
using trireme::test::fake::report_offence;

std::mutex faults_mutex;
NcclFaults faults;
std::atomic<int> communicators = 0;

NcclFaults faults_now() {
  const std::lock_guard lock(faults_mutex);
  return faults;
}

enum class Kind { kSend, kRecv, kAllReduce, kReduce, kReduceScatter, kAllGather, kBroadcast };

struct Call {
  Kind kind = Kind::kSend;
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  ncclRedOp_t op = ncclSum;
  int peer = 0;  // or root
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;

  bool fits(const Call& other) const {
    return kind == other.kind && count == other.count && type == other.type && op == other.op &&
           peer == other.peer;
  }
};

DType dtype_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat64:
      return DType::kF64;
    case ncclFloat16:
      return DType::kF16;
    case ncclBfloat16:
      return DType::kBF16;
    case ncclInt32:
      return DType::kI32;
    case ncclInt64:
      return DType::kI64;
    case ncclUint8:
      return DType::kU8;
    default:
      return DType::kF32;
  }
}

ReduceOp reduce_op(ncclRedOp_t op) {
  if (op == ncclAvg) return ReduceOp::kMean;
  if (op == ncclMin) return ReduceOp::kMin;
  return op == ncclMax ? ReduceOp::kMax : ReduceOp::kSum;
}

std::size_t bytes_of(const Call& call) {
  return call.count * trireme::size_of(dtype_of(call.type));
}

/// One send that is offered, until its receiver has taken it.
struct Offer {
  const Call* send = nullptr;
  bool taken = false;
};

/// One collective: what each rank brings, and how far all are.
struct Meeting {
  std::map<int, const Call*> calls;
  int computed = 0;
  int left = 0;
};

/// The ranks that share a unique id.
struct World {
  explicit World(int size) : size(size) {}

  const int size;
  std::mutex mutex;
  std::condition_variable changed;
  int joined = 0;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Offer>>> offers;
  std::map<std::uint64_t, Meeting> meetings;
  /// Ends of messages, as (rank, peer, kind), that have asked for their connection.
  std::set<std::tuple<int, int, Kind>> opened;
};

std::mutex worlds_mutex;
std::map<std::uint64_t, std::shared_ptr<World>> worlds;

}  // namespace

struct ncclComm {
  std::shared_ptr<World> world;
  int rank = 0;
  int device = 0;
  std::atomic<bool> aborted = false;
  std::atomic<ncclResult_t> error = ncclSuccess;
  std::uint64_t collectives = 0;                    // of the stream's thread
  std::vector<std::tuple<int, int, Kind>> awaited;  // the other ends of the last group's messages
};

namespace {

using CommRef = std::shared_ptr<ncclComm>;

std::mutex comms_mutex;
std::map<ncclComm_t, CommRef> comms;  // a stream may use one that its owner has aborted

CommRef find(ncclComm_t comm) {
  const std::lock_guard lock(comms_mutex);
  const auto found = comms.find(comm);
  return found == comms.end() ? nullptr : found->second;
}

// On the stream's thread: false once nobody waits for the result.
template <class Done>
bool await(ncclComm& comm, std::unique_lock<std::mutex>& lock, Done done) {
  while (!done()) {
    if (comm.aborted) return false;
    comm.world->changed.wait_for(lock, 1ms);
  }
  return true;
}

// NCCL's order is its own: this one begins with the last rank.
std::vector<char> reduced(const Meeting& meeting, const Call& own, std::size_t first) {
  std::vector<const void*> terms;
  for (auto rank = meeting.calls.rbegin(); rank != meeting.calls.rend(); ++rank) {
    terms.push_back(static_cast<const char*>(rank->second->in) +
                    first * trireme::size_of(dtype_of(own.type)));
  }
  std::vector<char> result(bytes_of(own));
  void* out = result.data();
  const auto ranks = static_cast<int>(terms.size());
  trireme::tree_reduce({&out, 1}, terms, trireme::ReductionTree(ranks, ranks),
                       static_cast<std::int64_t>(own.count), dtype_of(own.type), reduce_op(own.op));
  return result;
}

std::vector<char> result_of(const Meeting& meeting, const ncclComm& comm, const Call& own) {
  const auto bytes_at = [&](int rank) {
    const char* begin = static_cast<const char*>(meeting.calls.at(rank)->in);
    return std::vector<char>(begin, begin + bytes_of(own));
  };
  switch (own.kind) {
    case Kind::kAllReduce:
      return reduced(meeting, own, 0);
    case Kind::kReduce:
      return comm.rank == own.peer ? reduced(meeting, own, 0) : std::vector<char>();
    case Kind::kReduceScatter:
      return reduced(meeting, own, static_cast<std::size_t>(comm.rank) * own.count);
    case Kind::kBroadcast:
      return bytes_at(own.peer);
    case Kind::kAllGather: {
      std::vector<char> all;
      for (int rank = 0; rank < comm.world->size; ++rank) {
        const std::vector<char> part = bytes_at(rank);
        all.insert(all.end(), part.begin(), part.end());
      }
      return all;
    }
    case Kind::kSend:
    case Kind::kRecv:
      break;
  }
  return {};
}

void run_collective(ncclComm& comm, const Call& call) {
  World& world = *comm.world;
  const std::uint64_t number = ++comm.collectives;
  std::unique_lock lock(world.mutex);
  Meeting& meeting = world.meetings[number];
  meeting.calls[comm.rank] = &call;
  world.changed.notify_all();
  const auto size = static_cast<std::size_t>(world.size);
  if (!await(comm, lock, [&] { return meeting.calls.size() == size; })) {
    meeting.calls.erase(comm.rank);
    return;
  }
  if (!call.fits(*meeting.calls.begin()->second)) report_offence("ranks call different things");
  const std::vector<char> result = result_of(meeting, comm, call);
  ++meeting.computed;
  world.changed.notify_all();
  if (!await(comm, lock, [&] { return meeting.computed == world.size; })) return;
  if (!result.empty()) std::memcpy(call.out, result.data(), result.size());
  ++meeting.left;
  world.changed.notify_all();
  if (!await(comm, lock, [&] { return meeting.left >= world.size; })) return;
  if (++meeting.left == 2 * world.size) world.meetings.erase(number);
}

// All at once: a send ends when its receiver has it. False if it was given up.
bool run_messages(ncclComm& comm, const std::vector<Call>& calls,
                  std::vector<std::shared_ptr<Offer>>& mine, std::unique_lock<std::mutex>& lock) {
  World& world = *comm.world;
  for (const Call& call : calls) {
    if (call.kind != Kind::kSend) continue;
    mine.push_back(std::make_shared<Offer>(Offer{&call}));
    world.offers[{comm.rank, call.peer}].push_back(mine.back());
  }
  world.changed.notify_all();
  for (const Call& call : calls) {
    if (call.kind != Kind::kRecv) continue;
    auto& offers = world.offers[{call.peer, comm.rank}];
    if (!await(comm, lock, [&] { return !offers.empty(); })) return false;
    const Call& send = *offers.front()->send;
    if (send.count != call.count || send.type != call.type) {
      report_offence("a send and its receive differ");
    } else {
      std::memcpy(call.out, send.in, bytes_of(call));
    }
    offers.front()->taken = true;
    offers.pop_front();
    world.changed.notify_all();
  }
  for (const auto& offer : mine) {
    if (!await(comm, lock, [&] { return offer->taken; })) return false;
  }
  return true;
}

void run_messages(ncclComm& comm, const std::vector<Call>& calls) {
  World& world = *comm.world;
  std::unique_lock lock(world.mutex);
  std::vector<std::shared_ptr<Offer>> mine;
  if (run_messages(comm, calls, mine, lock)) return;
  for (auto& [ends, offers] : world.offers) {
    if (ends.first == comm.rank) offers.clear();
  }
}

// Two ranks connect in their first message: the call is in progress until both have made it.
void open_connections(ncclComm& comm, const std::vector<Call>& calls) {
  const std::lock_guard lock(comm.world->mutex);
  comm.awaited.clear();
  for (const Call& call : calls) {
    const bool sends = call.kind == Kind::kSend;
    if (!sends && call.kind != Kind::kRecv) continue;
    comm.world->opened.emplace(comm.rank, call.peer, call.kind);
    comm.awaited.emplace_back(call.peer, comm.rank, sends ? Kind::kRecv : Kind::kSend);
  }
}

bool is_in_progress(const ncclComm& comm) {
  World& world = *comm.world;
  const std::lock_guard lock(world.mutex);
  if (world.joined < world.size || faults_now().never_meets) return true;
  for (const auto& end : comm.awaited) {
    if (!world.opened.contains(end)) return true;
  }
  return false;
}

thread_local int group_depth = 0;
thread_local std::vector<Call> group_calls;

ncclResult_t add(Call call) {
  if (group_depth == 0) report_offence("a call outside of a group");
  const CommRef comm = find(call.comm);
  if (!comm) {
    report_offence("a call on a communicator that is gone");
    return ncclInvalidArgument;
  }
  if (is_in_progress(*comm)) report_offence("a call on a communicator that is in another one");
  group_calls.push_back(call);
  return ncclSuccess;
}

void check_memory(const Call& call, const ncclComm& comm) {
  const std::size_t bytes = bytes_of(call);
  const auto size = static_cast<std::size_t>(comm.world->size);
  const std::size_t in = call.kind == Kind::kReduceScatter ? bytes * size : bytes;
  const std::size_t out = call.kind == Kind::kAllGather ? bytes * size : bytes;
  const bool well = (!call.in || trireme::test::fake::is_device_memory(call.in, in)) &&
                    (!call.out || trireme::test::fake::is_device_memory(call.out, out));
  if (!well) report_offence("NCCL was given memory that is not a device's");
}

}  // namespace

namespace trireme::test::fake {

void set_faults(NcclFaults now) {
  const std::lock_guard lock(faults_mutex);
  ::faults = now;
}

int open_communicators() {
  return communicators;
}

}  // namespace trireme::test::fake

extern "C" {

const char* ncclGetErrorString(ncclResult_t code) {
  return code == ncclRemoteError ? "remote process exited or there was a network error"
                                 : "a fake NCCL error";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<std::uint64_t> last = 0;
  if (faults_now().cannot_begin) return ncclSystemError;
  const std::uint64_t number = ++last;
  std::memcpy(id->internal, &number, sizeof number);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) report_offence("a communicator whose calls block");
  std::uint64_t number = 0;
  std::memcpy(&number, id.internal, sizeof number);
  auto made = std::make_shared<ncclComm>();
  {
    const std::lock_guard lock(worlds_mutex);
    auto& world = worlds[number];
    if (!world) world = std::make_shared<World>(size);
    made->world = world;
  }
  made->rank = rank;
  cudaGetDevice(&made->device);
  {
    const std::lock_guard lock(made->world->mutex);
    ++made->world->joined;
  }
  *comm = made.get();
  const std::lock_guard lock(comms_mutex);
  comms[made.get()] = made;
  ++communicators;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const CommRef known = find(comm);
  if (!known) return ncclInvalidArgument;
  const ncclResult_t failure = known->error.load();
  *error = failure == ncclSuccess && is_in_progress(*known) ? ncclInProgress : failure;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const CommRef known = find(comm);
  if (!known) return ncclInvalidArgument;
  known->aborted = true;
  while (faults_now().does_not_let_go) std::this_thread::sleep_for(1ms);
  const std::lock_guard lock(comms_mutex);
  comms.erase(comm);
  --communicators;
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  return ncclCommAbort(comm);
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group_depth > 0) return ncclSuccess;
  std::vector<Call> calls = std::exchange(group_calls, {});
  if (calls.empty()) return ncclSuccess;
  const CommRef comm = find(calls.front().comm);
  int device = -1;
  cudaGetDevice(&device);
  if (device != comm->device) report_offence("a communicator used while another device is current");
  for (const Call& call : calls) check_memory(call, *comm);
  if (faults_now().fails_on_rank == comm->rank) {
    comm->error = ncclRemoteError;
    return ncclSuccess;
  }
  open_connections(*comm, calls);
  const bool is_collective = calls.front().kind > Kind::kRecv;
  if (is_collective && calls.size() != 1) report_offence("collectives in one group");
  trireme::test::fake::queue(calls.front().stream, [comm, calls, is_collective] {
    // What was begun before was not ended either.
    if (comm->aborted) return;
    is_collective ? run_collective(*comm, calls.front()) : run_messages(*comm, calls);
  });
  return ncclInProgress;
}

ncclResult_t ncclSend(const void* in, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return add({Kind::kSend, in, nullptr, count, type, ncclSum, peer, comm, stream});
}

ncclResult_t ncclRecv(void* out, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add({Kind::kRecv, nullptr, out, count, type, ncclSum, peer, comm, stream});
}

ncclResult_t ncclAllReduce(const void* in, void* out, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return add({Kind::kAllReduce, in, out, count, type, op, 0, comm, stream});
}

ncclResult_t ncclReduce(const void* in, void* out, std::size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  return add({Kind::kReduce, in, out, count, type, op, root, comm, stream});
}

ncclResult_t ncclReduceScatter(const void* in, void* out, std::size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return add({Kind::kReduceScatter, in, out, count, type, op, 0, comm, stream});
}

ncclResult_t ncclAllGather(const void* in, void* out, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return add({Kind::kAllGather, in, out, count, type, ncclSum, 0, comm, stream});
}

ncclResult_t ncclBroadcast(const void* in, void* out, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return add({Kind::kBroadcast, in, out, count, type, ncclSum, root, comm, stream});
}

}  // extern "C"
