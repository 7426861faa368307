#include "trireme/cost/collectives.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "tests/comm/in_process.h"
#include "tests/comm/ranks.h"
#include "trireme/comm/hierarchical/hierarchical.h"
#include "trireme/comm/message/group.h"

namespace trireme::cost {
namespace {

using message::Chunk;
using message::Frame;
using message::FrameKind;
using test::Network;

constexpr OpKind kAll[] = {
    OpKind::kAllReduce, OpKind::kReduce,    OpKind::kReduceScatter, OpKind::kAllGather,
    OpKind::kAllToAll,  OpKind::kBroadcast, OpKind::kGather,        OpKind::kScatter,
    OpKind::kSend,      OpKind::kBarrier,
};

/// What a rank has handed to its transport; written by its threads.
struct Counts {
  std::mutex mutex;
  std::int64_t transfers = 0;
  Traffic traffic;

  Traffic now() {
    const std::lock_guard lock(mutex);
    return traffic;
  }
  std::int64_t transfers_now() {
    const std::lock_guard lock(mutex);
    return transfers;
  }
};

class CountingTransport final : public message::Transport {
 public:
  CountingTransport(std::unique_ptr<Transport> inner, Counts& counts)
      : Transport(inner->rank(), inner->size()), inner_(std::move(inner)), counts_(counts) {}

  std::string name() const override { return inner_->name(); }
  int tags() const override { return inner_->tags(); }

  void send_frame(int to, const Frame& frame) override {
    const FrameKind kind = frame.header.kind;
    if (kind == FrameKind::kAnnouncement || kind == FrameKind::kMessage) {
      const std::lock_guard lock(counts_.mutex);
      ++counts_.traffic.announcements;
      counts_.traffic.announced_bytes += static_cast<std::int64_t>(frame.bytes());
    }
    inner_->send_frame(to, frame);
  }

  std::optional<message::Arrival> next_frame(std::chrono::milliseconds patience) override {
    return inner_->next_frame(patience);
  }

  std::unique_ptr<message::Transfer> begin(int tag, std::span<const Chunk> sends,
                                           std::span<const Chunk> receives) override {
    {
      const std::lock_guard lock(counts_.mutex);
      ++counts_.transfers;
      for (const Chunk& chunk : receives) {
        counts_.traffic.bytes_received += static_cast<std::int64_t>(chunk.bytes);
      }
    }
    return inner_->begin(tag, sends, receives);
  }

 private:
  std::unique_ptr<Transport> inner_;
  Counts& counts_;
};

std::string describe(const CollectiveCall& call) {
  return fmt::format("collective {}, {}[{}], root {}, to {}, {} virtual workers",
                     static_cast<int>(call.kind), name_of(call.dtype), call.count, call.root,
                     call.to, call.virtual_workers);
}

/// Makes `call` on this rank and waits for it.
void make(Communicator& comm, const CollectiveCall& call) {
  const ReductionTree tree(call.virtual_workers > 0 ? call.virtual_workers : comm.size(),
                           comm.size());
  const std::int64_t rows = comm.size() * std::ssize(tree.nodes_of(comm.rank()));
  const std::size_t words = (rows * call.count * size_of(call.dtype) + 7) / 8;
  std::vector<double> in_memory(words);
  std::vector<double> out_memory(words);
  const auto in = [&](std::int64_t pieces) {
    return Buffer{in_memory.data(), pieces * call.count, call.dtype};
  };
  const auto out = [&](std::int64_t pieces) {
    return Buffer{out_memory.data(), pieces * call.count, call.dtype};
  };
  const int p = comm.size();
  switch (call.kind) {
    case OpKind::kAllReduce:
      return comm.all_reduce(in(tree.nodes_of(comm.rank()).size()), tree).wait();
    case OpKind::kReduce:
      return comm.reduce(in(1), call.root).wait();
    case OpKind::kReduceScatter:
      return comm.reduce_scatter(out(1), in(p * std::ssize(tree.nodes_of(comm.rank()))), tree)
          .wait();
    case OpKind::kAllGather:
      return comm.all_gather(out(p), in(1)).wait();
    case OpKind::kAllToAll:
      return comm.all_to_all(out(p), in(p)).wait();
    case OpKind::kBroadcast:
      return comm.broadcast(in(1), call.root).wait();
    case OpKind::kGather:
      return comm.gather(out(p), in(1), call.root).wait();
    case OpKind::kScatter:
      return comm.scatter(out(1), in(p), call.root).wait();
    case OpKind::kSend: {
      Work sent;
      if (comm.rank() == call.root) sent = comm.send(in(1), call.to);
      if (comm.rank() == call.to) comm.recv(out(1), call.root).wait();
      return sent.wait();
    }
    case OpKind::kBarrier:
      return comm.barrier();
  }
}

/// Calls of every kind: nothing, inline up to the last byte, one chunk, several, not divisible.
std::vector<CollectiveCall> calls_of(int ranks) {
  std::vector<CollectiveCall> calls;
  for (const OpKind kind : kAll) {
    const bool one_piece_a_rank = kind != OpKind::kAllReduce && kind != OpKind::kReduce &&
                                  kind != OpKind::kBroadcast && kind != OpKind::kSend;
    const std::int64_t most = one_piece_a_rank ? 270'001 : 1'500'007;
    for (const std::int64_t count : {0L, 1L, 51L, 256L, 257L, 1'001L, 16'385L, 140'001L, most}) {
      const int root = static_cast<int>(count % ranks);
      calls.push_back({kind, count, DType::kF32, root, (root + 1) % ranks});
    }
    for (const DType dtype : {DType::kBF16, DType::kF64, DType::kU8}) {
      calls.push_back({kind, 120'003, dtype, ranks - 1, 0});
    }
  }
  for (const std::int64_t count : {20L, 70L, 300L, 200'003L, 1'500'007L}) {
    for (const int workers : {ranks + 1, 2 * ranks + 1, 7 * ranks}) {
      calls.push_back({OpKind::kAllReduce, count, DType::kF32, 0, 0, workers});
    }
  }
  calls.push_back({OpKind::kAllReduce, 1'500'007, DType::kF16, 0, 0, 3 * ranks});
  for (const std::int64_t count : {3L, 1'001L, 140'001L}) {
    calls.push_back({OpKind::kReduceScatter, count, DType::kF32, 0, 0, 2 * ranks + 1});
  }
  return calls;
}

struct Counted {
  Traffic traffic;  // without phases
  std::int64_t transfers = 0;
};

Traffic difference(const Traffic& after, const Traffic& before) {
  return {.bytes_sent = after.bytes_sent - before.bytes_sent,
          .bytes_received = after.bytes_received - before.bytes_received,
          .announcements = after.announcements - before.announcements,
          .announced_bytes = after.announced_bytes - before.announced_bytes};
}

using Connect = std::function<std::unique_ptr<Communicator>(std::unique_ptr<message::Transport>)>;

/// What each rank moved in each call: result[rank][call].
std::vector<std::vector<Counted>> count(int ranks, const std::vector<CollectiveCall>& calls,
                                        const Connect& connect) {
  Network network(ranks);
  std::vector<Counts> counts(ranks);
  std::vector<std::vector<Counted>> counted(ranks);
  // A rank must not receive the message of a call that it has not made.
  std::barrier together(ranks);
  const auto count_on = [&](int rank) {
    const auto comm =
        connect(std::make_unique<CountingTransport>(network.transport(rank), counts[rank]));
    const auto now = [&] {
      Traffic traffic = counts[rank].now();
      traffic.bytes_sent = network.bytes_sent(rank);
      return traffic;
    };
    for (const CollectiveCall& call : calls) {
      const Traffic before = now();
      const std::int64_t transfers = counts[rank].transfers_now();
      together.arrive_and_wait();
      make(*comm, call);
      counted[rank].push_back(
          {difference(now(), before), counts[rank].transfers_now() - transfers});
    }
  };
  test::run_threads(ranks, [&](int rank) {
    try {
      count_on(rank);
    } catch (...) {
      together.arrive_and_drop();
      throw;
    }
  });
  return counted;
}

std::unique_ptr<Communicator> flat(std::unique_ptr<message::Transport> transport) {
  return message::Group::world(std::move(transport));
}

void expect_equal(const Traffic& counted, Traffic formula) {
  EXPECT_EQ(counted.bytes_sent, formula.bytes_sent);
  EXPECT_EQ(counted.bytes_received, formula.bytes_received);
  EXPECT_EQ(counted.announcements, formula.announcements);
  EXPECT_EQ(counted.announced_bytes, formula.announced_bytes);
}

TEST(Cost, BytesOverMessagesAreThoseOfTheFormula) {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    const auto calls = calls_of(ranks);
    const auto counted = count(ranks, calls, flat);
    for (int rank = 0; rank < ranks; ++rank) {
      for (std::size_t i = 0; i < calls.size(); ++i) {
        SCOPED_TRACE(fmt::format("rank {} of {}: {}", rank, ranks, describe(calls[i])));
        expect_equal(counted[rank][i].traffic, over_messages(calls[i], ranks, rank));
      }
    }
  }
}

// Nothing else moves, so every transfer of a call is one phase. An all-reduce has two transfers a
// chunk: it sends the sums of one chunk while the terms of the next one arrive.
TEST(Cost, PhasesOverMessagesAreTheTransfersOneAfterTheOther) {
  for (int ranks = 2; ranks <= 4; ++ranks) {
    const auto calls = calls_of(ranks);
    const auto counted = count(ranks, calls, flat);
    for (std::size_t i = 0; i < calls.size(); ++i) {
      SCOPED_TRACE(fmt::format("{} ranks: {}", ranks, describe(calls[i])));
      std::int64_t most = 0;
      for (const auto& of_rank : counted) most = std::max(most, of_rank[i].transfers);
      const std::int64_t phases = over_messages(calls[i], ranks, 0).phases;
      const bool hands_out =
          calls[i].kind == OpKind::kAllReduce || calls[i].kind == OpKind::kReduce;
      EXPECT_EQ(most, hands_out && phases > 0 ? 2 * (phases - 1) : phases);
    }
  }
}

std::vector<std::vector<Counted>> count_over_hosts(const std::vector<int>& ranks_of_host,
                                                   const std::vector<CollectiveCall>& calls) {
  std::vector<std::uint64_t> host_of;
  for (std::size_t host = 0; host < ranks_of_host.size(); ++host) {
    host_of.insert(host_of.end(), ranks_of_host[host], host);
  }
  const auto ranks = static_cast<int>(host_of.size());
  return count(ranks, calls, [&](std::unique_ptr<message::Transport> transport) {
    const int rank = transport->rank();
    return hierarchical(std::move(transport), {}, host_of[rank]);
  });
}

TEST(Cost, BytesBetweenHostsAreThoseOfTheFormula) {
  const std::vector<std::vector<int>> layouts = {{3},    {1, 1},    {2, 2},    {1, 2},   {3, 2},
                                                 {1, 3}, {2, 1, 2}, {2, 2, 2}, {1, 1, 1}};
  for (const auto& ranks_of_host : layouts) {
    const int ranks = std::accumulate(ranks_of_host.begin(), ranks_of_host.end(), 0);
    const auto calls = calls_of(ranks);
    const auto counted = count_over_hosts(ranks_of_host, calls);
    for (int rank = 0; rank < ranks; ++rank) {
      for (std::size_t i = 0; i < calls.size(); ++i) {
        SCOPED_TRACE(fmt::format("rank {} of hosts of {} ranks: {}", rank,
                                 fmt::join(ranks_of_host, ", "), describe(calls[i])));
        expect_equal(counted[rank][i].traffic, over_hosts(calls[i], ranks_of_host, rank));
      }
    }
  }
}

// A leader makes `each` transfers a chunk, one after the other, and moves two chunks at a time.
TEST(Cost, PhasesOverHostsAreTheTransfersOfTwoChunksAtATime) {
  const std::vector<int> ranks_of_host = {2, 1, 2};
  const auto calls = calls_of(5);
  const auto counted = count_over_hosts(ranks_of_host, calls);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const CollectiveCall& call = calls[i];
    SCOPED_TRACE(describe(call));
    const Traffic traffic = over_hosts(call, ranks_of_host, 0);
    std::int64_t each = 0;
    if (call.kind == OpKind::kAllGather || call.kind == OpKind::kReduceScatter) each = 1;
    if (call.kind == OpKind::kBroadcast && call.count > 16'384) each = 2;
    if (call.kind == OpKind::kAllReduce || call.kind == OpKind::kReduce) each = 2;
    if (each == 0 || call.dtype == DType::kF16) continue;  // f16: two transfers more a chunk
    const std::int64_t chunks = counted[0][i].transfers / each;
    EXPECT_EQ(traffic.phases, (chunks + 1) / 2 * each);
  }
}

TEST(Cost, EachHostOfTwoSendsAnAllReducedBufferOnceWhateverItsRanks) {
  const CollectiveCall call{OpKind::kAllReduce, 1 << 20};
  const std::int64_t buffer = call.count * 4;
  for (const auto& ranks_of_host : std::vector<std::vector<int>>{{2, 2}, {4, 4}, {4, 8}}) {
    const int ranks = ranks_of_host[0] + ranks_of_host[1];
    std::int64_t sent[2] = {};
    for (int rank = 0; rank < ranks; ++rank) {
      sent[rank >= ranks_of_host[0]] += over_hosts(call, ranks_of_host, rank).bytes_sent;
    }
    EXPECT_EQ(sent[0], buffer);
    // {4, 8}: 12 virtual workers; host 1 holds 4 to 11, which are two complete nodes.
    EXPECT_EQ(sent[1], ranks_of_host[1] == 8 ? buffer * 3 / 2 : buffer);
  }
}

// Counts that divide evenly, so that the closed forms of docs/algorithms.md are exact.
TEST(Cost, TheTableOverMessagesHolds) {
  for (const int p : {3, 4, 8}) {
    const std::int64_t count = std::int64_t{131'072} * p;
    const std::int64_t bytes = 4 * count;
    const auto sent = [&](OpKind kind, int rank, int workers = 0) {
      const CollectiveCall call{kind, count, DType::kF32, 0, p - 1, workers};
      return over_messages(call, p, rank).bytes_sent;
    };
    EXPECT_EQ(sent(OpKind::kAllReduce, 1), 2 * (p - 1) * bytes / p);
    // Rank 1 holds workers 3, 4 and 5: two nodes.
    EXPECT_EQ(sent(OpKind::kAllReduce, 1, 3 * p), 3 * (p - 1) * bytes / p);
    EXPECT_EQ(sent(OpKind::kReduce, 0), (p - 1) * bytes / p);
    EXPECT_EQ(sent(OpKind::kReduce, 1), bytes);
    EXPECT_EQ(sent(OpKind::kReduceScatter, 1), (p - 1) * bytes);
    EXPECT_EQ(sent(OpKind::kAllGather, 1), (p - 1) * bytes);
    EXPECT_EQ(sent(OpKind::kAllToAll, 1), (p - 1) * bytes);
    EXPECT_EQ(sent(OpKind::kBroadcast, 0), 2 * (p - 1) * bytes / p);
    EXPECT_EQ(sent(OpKind::kBroadcast, 1), (p - 2) * bytes / p);
    EXPECT_EQ(sent(OpKind::kGather, 0), 0);
    EXPECT_EQ(sent(OpKind::kGather, 1), bytes);
    EXPECT_EQ(sent(OpKind::kScatter, 0), (p - 1) * bytes);
    EXPECT_EQ(sent(OpKind::kScatter, 1), 0);
    EXPECT_EQ(sent(OpKind::kSend, 0), bytes);
  }
}

TEST(Cost, TheTableOverHostsHolds) {
  const std::vector<int> hosts(4, 2);  // H = 4, C = 2, m = 1
  const std::int64_t count = 1 << 20;
  const std::int64_t bytes = 4 * count;
  const auto sent = [&](OpKind kind, int rank, DType dtype = DType::kF32) {
    const CollectiveCall call{kind, count * 4 / static_cast<std::int64_t>(size_of(dtype)), dtype};
    return over_hosts(call, hosts, rank).bytes_sent;
  };
  EXPECT_EQ(sent(OpKind::kAllReduce, 3), 2 * 3 * bytes / 4 / 2);
  EXPECT_EQ(sent(OpKind::kAllReduce, 3, DType::kBF16), 2 * 3 * (2 * bytes) / 4 / 2);
  EXPECT_EQ(sent(OpKind::kReduceScatter, 3, DType::kF64), 3 * bytes);
  EXPECT_EQ(sent(OpKind::kAllGather, 3), 3 * bytes);
  EXPECT_EQ(sent(OpKind::kBroadcast, 1), 2 * 3 * bytes / 4 / 2);
  EXPECT_EQ(sent(OpKind::kBroadcast, 2), 2 * bytes / 4 / 2);
  // One host of three: its third rank sends nothing, the first one serves it.
  const int unequal[] = {2, 3};
  const CollectiveCall gather{OpKind::kAllGather, count};
  EXPECT_EQ(over_hosts(gather, unequal, 2).bytes_sent, 2 * bytes);
  EXPECT_EQ(over_hosts(gather, unequal, 4).bytes_sent, 0);
}

TEST(Cost, AllReduceSendsTheLeastBytesThatAnAlgorithmCan) {
  // A slice is cut between lines, and the last line may be short.
  constexpr double kRounding = 2 * 64;
  for (const int ranks : {2, 3, 4, 5, 8, 100}) {
    for (const std::int64_t count : {1'000L, 131'072L * ranks, 1'000'003L, 50'000'000L}) {
      const CollectiveCall call{OpKind::kAllReduce, count};
      const double bytes = 4.0 * static_cast<double>(count);
      const double chunks = static_cast<double>(over_messages(call, ranks, 0).phases - 1);
      double sum = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const auto sent = static_cast<double>(over_messages(call, ranks, rank).bytes_sent);
        EXPECT_NEAR(sent, least_all_reduce_bytes(bytes, ranks), chunks * kRounding * ranks)
            << ranks;
        sum += sent;
      }
      EXPECT_EQ(sum, 2 * (ranks - 1) * bytes);
    }
    const CollectiveCall even{OpKind::kAllReduce, std::int64_t{131'072} * ranks};
    EXPECT_EQ(static_cast<double>(over_messages(even, ranks, 0).bytes_sent),
              least_all_reduce_bytes(4.0 * static_cast<double>(even.count), ranks));
  }
}

TEST(Cost, EstimatesAreLatenciesAndTheBytesOfTheBusiestRank) {
  const Link link{.latency_seconds = 1e-3, .bytes_per_second = 1e6};
  constexpr double kFrame = sizeof(Frame::Header);
  const auto seconds = [&](const CollectiveCall& call, int ranks) {
    return seconds_over_messages(call, ranks, link);
  };
  // Four ranks, three frames each.
  EXPECT_DOUBLE_EQ(seconds({OpKind::kBarrier}, 4), 1e-3 + 3 * kFrame / 1e6);
  EXPECT_DOUBLE_EQ(seconds({OpKind::kAllReduce, 256}, 4), 1e-3 + 3 * (kFrame + 1024) / 1e6);
  // Two chunks of 2 MiB: a latency for the announcement, three for the data.
  EXPECT_DOUBLE_EQ(seconds({OpKind::kAllReduce, 1 << 20}, 4),
                   4e-3 + (3 * kFrame + 1.5 * (4 << 20)) / 1e6);
  EXPECT_DOUBLE_EQ(seconds({OpKind::kGather, 1000}, 4), 2e-3 + 3 * (kFrame + 4000) / 1e6);
  EXPECT_DOUBLE_EQ(seconds({OpKind::kBroadcast, 16'000}, 4), 2e-3 + 3 * (kFrame + 64'000) / 1e6);
  // The root sends each rank a quarter twice: the rank's and its own.
  EXPECT_DOUBLE_EQ(seconds({OpKind::kBroadcast, 1 << 20}, 4),
                   3e-3 + (3 * kFrame + 1.5 * (4 << 20)) / 1e6);
  EXPECT_DOUBLE_EQ(seconds({OpKind::kAllReduce, 1 << 20}, 1), 0);
}

TEST(Cost, EstimatesOverHostsShareALinkAmongTheRanksOfAHost) {
  const Link link{.latency_seconds = 1e-3, .bytes_per_second = 1e6};
  constexpr double kFrame = sizeof(Frame::Header);
  const int two_by_two[] = {2, 2};
  const auto seconds = [&](const CollectiveCall& call) {
    return seconds_over_hosts(call, two_by_two, link);
  };
  // Four chunks of 1 MiB, two at a time, two phases each; each host sends the buffer once.
  EXPECT_DOUBLE_EQ(seconds({OpKind::kAllReduce, 1 << 20}), 5e-3 + (4 * kFrame + (4 << 20)) / 1e6);
  EXPECT_DOUBLE_EQ(seconds({OpKind::kAllGather, 1000}), 2e-3 + (4 * kFrame + 8000) / 1e6);
  // From rank to rank: two ranks send two others a piece each.
  EXPECT_DOUBLE_EQ(seconds({OpKind::kAllToAll, 1000}), 2e-3 + (4 * kFrame + 16'000) / 1e6);
  EXPECT_DOUBLE_EQ(seconds({.kind = OpKind::kSend, .count = 1000, .to = 3}),
                   2e-3 + (kFrame + 4000) / 1e6);
  const int one[] = {4};
  EXPECT_DOUBLE_EQ(seconds_over_hosts({OpKind::kAllReduce, 1 << 20}, one, link), 0);
}

}  // namespace
}  // namespace trireme::cost
