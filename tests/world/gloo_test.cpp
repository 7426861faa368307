#include "trireme/world/c10d/gloo.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/comm/loopback.h"
#include "tests/world/rank_processes.h"
#include "trireme/base/error.h"
#include "trireme/world/c10d/process_group.h"

namespace trireme {
namespace {

using message::Arrival;
using message::Chunk;
using message::Frame;
using message::Transport;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr seconds kLong{30};

message::Deadline after(milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

// Each rank joins the others and does `body`.
test::RankProcesses start(int ranks, const std::function<void(Transport&)>& body) {
  c10d::Rendezvous rendezvous;
  rendezvous.world_size = ranks;
  rendezvous.master_port = test::free_port();
  rendezvous.timeout = kLong;
  return test::RankProcesses(ranks, [&](int rank) {
    c10d::Rendezvous own = rendezvous;
    own.rank = rank;
    body(*c10d::gloo(own));
  });
}

Frame numbered(std::uint64_t number, std::string_view text) {
  Frame frame{};
  frame.header.number = number;
  frame.set_payload(text);
  return frame;
}

Arrival next(Transport& transport) {
  std::optional<Arrival> arrival = transport.next_frame(kLong);
  if (!arrival) throw std::runtime_error("no frame has come");
  return *arrival;
}

Chunk chunk_of(int peer, std::vector<std::uint8_t>& bytes) {
  return {peer, bytes.data(), bytes.size()};
}

CommError error_of(message::Transfer& transfer, milliseconds patience) {
  try {
    transfer.wait(after(patience));
  } catch (const CommError& error) {
    return error;
  }
  return CommError("no error");
}

class Gloo : public testing::TestWithParam<int> {};

TEST_P(Gloo, FramesOfEachPeerArriveInOrderAndWhole) {
  constexpr std::uint64_t kFrames = 100;
  test::RankProcesses ranks = start(GetParam(), [](Transport& transport) {
    for (std::uint64_t number = 0; number < kFrames; ++number) {
      for (int to = 0; to < transport.size(); ++to) {
        if (to == transport.rank()) continue;
        transport.send_frame(to, numbered(number, std::string(number * 10, 'a' + number % 26)));
      }
    }
    std::vector<std::uint64_t> expected(transport.size());
    for (std::uint64_t left = kFrames * (transport.size() - 1); left > 0; --left) {
      const Arrival arrival = next(transport);
      if (!arrival.lost.empty()) {
        // Peers may go as soon as they have sent and seen all.
        ++left;
        continue;
      }
      const std::uint64_t number = expected[arrival.from]++;
      ASSERT_EQ(arrival.frame.header.number, number);
      ASSERT_EQ(arrival.frame.text(), std::string(number * 10, 'a' + number % 26));
    }
  });
  ranks.expect_all_well();
}

TEST_P(Gloo, ChunksAreMatchedByTagInBothDirections) {
  test::RankProcesses ranks = start(GetParam(), [](Transport& transport) {
    const int size = transport.size();
    constexpr std::size_t kBytes = 100000;
    // Byte of what `from` sends to `to` under `tag`.
    const auto value = [](int from, int to, int tag) {
      return static_cast<std::uint8_t>(1 + from + 10 * to + 50 * tag);
    };
    std::vector<std::vector<std::uint8_t>> out;
    std::vector<std::vector<std::uint8_t>> in;
    for (int tag = 0; tag < 3; ++tag) {
      for (int peer = 0; peer < size; ++peer) {
        out.emplace_back(kBytes + tag, value(transport.rank(), peer, tag));
        in.emplace_back(kBytes + tag);
      }
    }
    std::vector<std::unique_ptr<message::Transfer>> transfers;
    for (int i = 0; i < 3; ++i) {
      // Each rank begins the tags in another order.
      const int tag = (i + transport.rank()) % 3;
      std::vector<Chunk> sends;
      std::vector<Chunk> recvs;
      for (int peer = 0; peer < size; ++peer) {
        if (peer == transport.rank()) continue;
        sends.push_back(chunk_of(peer, out[tag * size + peer]));
        recvs.push_back(chunk_of(peer, in[tag * size + peer]));
      }
      transfers.push_back(transport.begin(tag, sends, recvs));
    }
    for (auto transfer = transfers.rbegin(); transfer != transfers.rend(); ++transfer) {
      (*transfer)->wait(after(kLong));
    }
    for (int tag = 0; tag < 3; ++tag) {
      for (int peer = 0; peer < size; ++peer) {
        if (peer == transport.rank()) continue;
        const auto& bytes = in[tag * size + peer];
        EXPECT_EQ(std::count(bytes.begin(), bytes.end(), value(peer, transport.rank(), tag)),
                  static_cast<std::ptrdiff_t>(bytes.size()));
      }
    }
  });
  ranks.expect_all_well();
}

std::int64_t sum_of_ranks(int size) {
  return size * (size - 1) / 2;
}

template <class T>
void expect_native_reductions(Transport& transport) {
  const int size = transport.size();
  const auto reduce = [&](OpKind kind, ReduceOp op) {
    std::vector<T> x(1001);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i % 50 + transport.rank());
    Operation operation;
    operation.kind = kind;
    operation.dtype = dtype_of<T>();
    operation.op = op == ReduceOp::kMean ? ReduceOp::kSum : op;
    operation.divisor = op == ReduceOp::kMean ? size : 1;
    operation.root = size - 1;
    operation.count = static_cast<std::int64_t>(x.size());
    operation.in = operation.out = buffer_of(std::span(x));
    EXPECT_TRUE(transport.run_native(operation, after(kLong)));
    return x;
  };
  for (const OpKind kind : {OpKind::kAllReduce, OpKind::kReduce}) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
      const std::vector<T> x = reduce(kind, op);
      if (kind == OpKind::kReduce && transport.rank() != size - 1) continue;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::int64_t base = i % 50;
        const std::int64_t expected = op == ReduceOp::kSum   ? base * size + sum_of_ranks(size)
                                      : op == ReduceOp::kMin ? base
                                                             : base + size - 1;
        ASSERT_EQ(x[i], static_cast<T>(expected)) << name_of(kind) << " " << name_of(op);
      }
    }
  }
  if (!is_floating(dtype_of<T>())) return;
  const std::vector<T> mean = reduce(OpKind::kAllReduce, ReduceOp::kMean);
  EXPECT_EQ(mean[7], static_cast<T>(static_cast<T>(7 * size + sum_of_ranks(size)) / size));
}

TEST_P(Gloo, NativeReductionsEqualTheClosedForm) {
  test::RankProcesses ranks = start(GetParam(), [](Transport& transport) {
    expect_native_reductions<float>(transport);
    expect_native_reductions<double>(transport);
    expect_native_reductions<std::int32_t>(transport);
    expect_native_reductions<std::int64_t>(transport);
    expect_native_reductions<std::uint8_t>(transport);
  });
  ranks.expect_all_well();
}

TEST_P(Gloo, NativeMovementsPutEachPieceInItsPlace) {
  test::RankProcesses ranks = start(GetParam(), [](Transport& transport) {
    const int size = transport.size();
    const int rank = transport.rank();
    constexpr int kCount = 33;
    const auto carry_out = [&](OpKind kind, std::span<std::int64_t> out,
                               std::span<std::int64_t> in) {
      Operation operation;
      operation.kind = kind;
      operation.dtype = DType::kI64;
      operation.root = 1;
      operation.count = kCount;
      operation.out = buffer_of(out);
      operation.in = buffer_of(in);
      return transport.run_native(operation, after(kLong));
    };
    std::vector<std::int64_t> own(kCount, 100 + rank);
    std::vector<std::int64_t> all(kCount * size);
    ASSERT_TRUE(carry_out(OpKind::kAllGather, all, own));
    for (int i = 0; i < kCount * size; ++i) ASSERT_EQ(all[i], 100 + i / kCount);

    for (int i = 0; i < kCount * size; ++i) all[i] = 10 * rank + i / kCount;
    std::vector<std::int64_t> turned(kCount * size);
    ASSERT_TRUE(carry_out(OpKind::kAllToAll, turned, all));
    for (int i = 0; i < kCount * size; ++i) ASSERT_EQ(turned[i], 10 * (i / kCount) + rank);

    ASSERT_TRUE(carry_out(OpKind::kBroadcast, own, own));
    EXPECT_THAT(own, testing::Each(101));
    EXPECT_FALSE(carry_out(OpKind::kReduceScatter, own, all));
  });
  ranks.expect_all_well();
}

TEST_P(Gloo, WhatWasSentBeforeLeavingArrives) {
  test::RankProcesses ranks = start(GetParam(), [](Transport& transport) {
    if (transport.rank() == 0) {
      for (int to = 1; to < transport.size(); ++to) {
        for (std::uint64_t number = 0; number < 50; ++number) {
          transport.send_frame(to, numbered(number, "last words"));
        }
      }
      return;
    }
    for (std::uint64_t number = 0; number < 50;) {
      const Arrival arrival = next(transport);
      if (arrival.from != 0) continue;
      ASSERT_EQ(arrival.lost, "") << "after " << number << " frames";
      ASSERT_EQ(arrival.frame.header.number, number++);
    }
    for (;;) {
      const Arrival arrival = next(transport);
      if (arrival.from != 0) continue;
      ASSERT_THAT(arrival.lost, HasSubstr("connection"));
      break;
    }
  });
  ranks.expect_all_well();
}

INSTANTIATE_TEST_SUITE_P(Ranks, Gloo, testing::Values(2, 3, 4),
                         [](const auto& info) { return fmt::format("{}", info.param); });

TEST(GlooTransport, ChunksOf64MiBCrossEachOther) {
  test::RankProcesses ranks = start(2, [](Transport& transport) {
    const int peer = 1 - transport.rank();
    std::vector<std::uint8_t> out(std::size_t{64} << 20, 3 + transport.rank());
    std::vector<std::uint8_t> in(out.size());
    const Chunk send = chunk_of(peer, out);
    const Chunk recv = chunk_of(peer, in);
    transport.begin(7, {&send, 1}, {&recv, 1})->wait(after(kLong));
    EXPECT_TRUE(std::all_of(in.begin(), in.end(), [&](int byte) { return byte == 3 + peer; }));
  });
  ranks.expect_all_well();
}

TEST(GlooTransport, AKilledPeerIsReportedOnceAndEndsTransfers) {
  test::RankProcesses ranks = start(3, [](Transport& transport) {
    if (transport.rank() == 1) {
      transport.send_frame(0, numbered(1, ""));
      transport.send_frame(2, numbered(1, ""));
      // Until both have a transfer with this rank under way.
      while (next(transport).from != 0) {
      }
      std::this_thread::sleep_for(milliseconds(100));
      raise(SIGKILL);
    }
    std::vector<std::uint8_t> bytes(std::size_t{1} << 20);
    const Chunk chunk = chunk_of(1, bytes);
    const auto recv = transport.begin(0, {}, {&chunk, 1});
    const auto send = transport.begin(1, {&chunk, 1}, {});
    EXPECT_EQ(next(transport).frame.header.number, 1u);
    transport.send_frame(1, numbered(2, ""));
    for (message::Transfer* transfer : {recv.get(), send.get()}) {
      const CommError error = error_of(*transfer, kLong);
      EXPECT_THAT(error.what(), HasSubstr("rank 1 is lost: connection"));
      EXPECT_EQ(error.lost_rank(), 1);
    }
    for (bool is_known = false; !is_known;) {
      const Arrival arrival = next(transport);
      is_known = arrival.from == 1 && !arrival.lost.empty();
    }
    transport.send_frame(1, numbered(3, "to nobody"));
    const auto later = transport.begin(2, {&chunk, 1}, {});
    EXPECT_THAT(error_of(*later, kLong).what(), HasSubstr("rank 1 is lost"));
    // The two remaining ranks continue, and the loss is not reported again.
    const int other = 2 - transport.rank();
    transport.send_frame(other, numbered(4, ""));
    for (;;) {
      const Arrival arrival = next(transport);
      if (arrival.from == other) break;
      ADD_FAILURE() << "from rank " << arrival.from << ": " << arrival.lost;
    }
  });
  EXPECT_EQ(ranks.error_of(0), "");
  EXPECT_EQ(ranks.error_of(2), "");
  EXPECT_EQ(ranks.error_of(1), "killed by signal 9");
}

TEST(WithoutSigpipe, TurnsTheSignalIntoAnError) {
  test::RankProcesses process(1, [](int) {
    signal(SIGPIPE, SIG_DFL);
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    close(ends[0]);
    const c10d::WithoutSigpipe without_sigpipe;
    EXPECT_EQ(write(ends[1], "x", 1), -1);
    EXPECT_EQ(errno, EPIPE);
  });
  process.expect_all_well();
}

TEST(GlooTransport, SendingToPeersThatDieMeanwhileRaisesNoSignal) {
  test::RankProcesses ranks = start(4, [](Transport& transport) {
    if (transport.rank() != 0) {
      for (int i = 0; i < 20; ++i) next(transport);
      raise(SIGKILL);
    }
    std::vector<std::uint8_t> bytes(100);
    for (int lost = 0, sent = 0; lost < 3; ++sent) {
      for (int peer = 1; peer < 4; ++peer) {
        transport.send_frame(peer, numbered(sent, ""));
        const Chunk chunk = chunk_of(peer, bytes);
        transport.begin(0, {&chunk, 1}, {});
      }
      const std::optional<Arrival> arrival = transport.next_frame(milliseconds(0));
      if (arrival && !arrival->lost.empty()) ++lost;
    }
  });
  EXPECT_EQ(ranks.error_of(0), "");
}

TEST(GlooTransport, AStoppedPeerIsNamedAtTheDeadlineAndDelaysNoOtherRank) {
  test::RankProcesses ranks = start(3, [](Transport& transport) {
    if (transport.rank() == 1) raise(SIGSTOP);
    std::vector<std::uint8_t> bytes(std::size_t{64} << 20);
    const Chunk chunk = chunk_of(1, bytes);
    const auto recv = transport.begin(0, {}, {&chunk, 1});
    const auto send = transport.begin(1, {&chunk, 1}, {});
    for (int i = 0; i < 100; ++i) transport.send_frame(1, numbered(i, ""));
    const CommError not_sent = error_of(*recv, milliseconds(300));
    EXPECT_STREQ(not_sent.what(), "gloo: rank 1 has not sent all of 67108864 bytes in time");
    EXPECT_EQ(not_sent.lost_rank(), 1);
    const CommError not_taken = error_of(*send, milliseconds(300));
    EXPECT_STREQ(not_taken.what(), "gloo: rank 1 has not taken all of 67108864 bytes in time");
    // What others do goes on: no connection was closed.
    const int other = 2 - transport.rank();
    std::vector<std::uint8_t> in(1000);
    std::vector<std::uint8_t> out(1000, 9);
    const Chunk to_other = chunk_of(other, out);
    const Chunk from_other = chunk_of(other, in);
    transport.begin(2, {&to_other, 1}, {&from_other, 1})->wait(after(kLong));
    EXPECT_THAT(in, testing::Each(9));
  });
  EXPECT_EQ(ranks.error_of(0), "");
  EXPECT_EQ(ranks.error_of(2), "");
}

TEST(GlooTransport, ATransferIsAbortedFromAnotherThread) {
  test::RankProcesses ranks = start(2, [](Transport& transport) {
    std::vector<std::uint8_t> bytes(1000);
    const Chunk chunk = chunk_of(1 - transport.rank(), bytes);
    const auto blocked = transport.begin(0, {}, {&chunk, 1});
    std::thread other([&] {
      std::this_thread::sleep_for(milliseconds(100));
      blocked->abort();
    });
    EXPECT_THAT(error_of(*blocked, kLong).what(), HasSubstr("given up"));
    other.join();
    const auto not_waited_for = transport.begin(1, {}, {&chunk, 1});
    not_waited_for->abort();
    EXPECT_THAT(error_of(*not_waited_for, kLong).what(), HasSubstr("given up"));
    // Both are done with it before one leaves.
    transport.send_frame(1 - transport.rank(), numbered(1, ""));
    EXPECT_EQ(next(transport).lost, "");
  });
  ranks.expect_all_well();
}

void all_reduce_until_it_fails(Transport& transport, milliseconds patience) {
  std::vector<float> x(1000, 1);
  Operation operation;
  operation.kind = OpKind::kAllReduce;
  operation.count = 1000;
  operation.in = operation.out = buffer_of(std::span(x));
  for (int i = 0; i < 1000000; ++i) transport.run_native(operation, after(patience));
}

TEST(GlooTransport, AKilledPeerEndsANativeCollectiveOnAllRanks) {
  test::RankProcesses ranks = start(4, [](Transport& transport) {
    if (transport.rank() == 1) {
      std::this_thread::sleep_for(milliseconds(300));
      raise(SIGKILL);
    }
    all_reduce_until_it_fails(transport, kLong);
  });
  // A survivor that leaves is lost for the others as well.
  for (const int rank : {0, 2, 3}) {
    EXPECT_THAT(ranks.error_of(rank), testing::MatchesRegex("gloo: rank . is lost: connection.*"));
  }
}

TEST(GlooTransport, AStoppedPeerEndsANativeCollectiveAtItsDeadline) {
  test::RankProcesses ranks = start(2, [](Transport& transport) {
    if (transport.rank() == 1) raise(SIGSTOP);
    all_reduce_until_it_fails(transport, milliseconds(500));
  });
  EXPECT_EQ(ranks.error_of(0), "gloo: the other ranks did not carry the operation out in time");
}

}  // namespace
}  // namespace trireme
