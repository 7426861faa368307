#include <dirent.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/comm/operation.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr std::int64_t kPiece = 60'000;  // several stages full

/// Buffers of one rank, on its heap or in shared memory.
struct Buffers {
  Buffers(Communicator& world, bool shared)
      : in(world.allocate(shared ? bytes(world) : 0)),
        out(world.allocate(shared ? bytes(world) : 0)),
        heap(shared ? 0 : 2 * bytes(world)) {}

  Buffer read(std::int64_t count) { return {in.data() ? in.data() : heap.data(), count}; }
  Buffer written(std::int64_t count) {
    return {out.data() ? out.data() : heap.data() + heap.size() / 2, count};
  }

  static std::size_t bytes(Communicator& world) { return kPiece * world.size() * sizeof(float); }

  Memory in;
  Memory out;
  std::vector<char> heap;
};

/// One call of an operation, waited for; rank 1 is the one to be killed.
void carry_out(OpKind kind, Communicator& world, Buffers& x) {
  const std::int64_t all = kPiece * world.size();
  const bool doomed = world.rank() == 1;
  std::vector<Work> works;
  switch (kind) {
    case OpKind::kAllReduce:
      return world.all_reduce(x.read(all)).wait();
    case OpKind::kReduceScatter:
      return world.reduce_scatter(x.written(kPiece), x.read(all)).wait();
    case OpKind::kAllGather:
      return world.all_gather(x.written(all), x.read(kPiece)).wait();
    case OpKind::kAllToAll:
      return world.all_to_all(x.written(all), x.read(all)).wait();
    case OpKind::kBroadcast:
      return world.broadcast(x.read(all), 1).wait();
    case OpKind::kReduce:
      return world.reduce(x.read(all), 1).wait();
    case OpKind::kGather:
      return world.gather(x.written(all), x.read(kPiece), 1).wait();
    case OpKind::kScatter:
      return world.scatter(x.written(kPiece), x.read(all), 1).wait();
    case OpKind::kSend:
    case OpKind::kRecv:
      // The doomed rank sends to all others, or receives from them.
      for (int peer = 0; peer < world.size(); ++peer) {
        if (doomed == (peer == 1)) continue;
        works.push_back(doomed == (kind == OpKind::kSend) ? world.send(x.read(kPiece), peer)
                                                          : world.recv(x.written(kPiece), peer));
      }
      for (Work& work : works) work.wait();
      return;
    case OpKind::kBarrier:
      return world.barrier();
    case OpKind::kAllocate:
      world.allocate(100'000);
      return;
    case OpKind::kSplit:
      world.split(world.rank() % 2);
      return;
  }
}

class KilledInTheMiddle : public testing::TestWithParam<std::tuple<OpKind, bool>> {};

TEST_P(KilledInTheMiddle, ARankIsNamedByAllOthersAtOnce) {
  const auto [kind, shared] = GetParam();
  for (const int ranks : {2, 3}) {
    // The timeout is half an hour, so a rank that does not learn of the death exceeds the limit of
    // this test.
    const auto ends = run_rank_processes(ranks, [&, kind = kind, shared = shared](auto& world) {
      Buffers x(world, shared);
      carry_out(kind, world, x);
      std::thread killer;
      if (world.rank() == 1) {
        killer = std::thread([] {
          std::this_thread::sleep_for(std::chrono::microseconds(1000 + getpid() % 1000));
          kill(getpid(), SIGKILL);
        });
      }
      for (;;) carry_out(kind, world, x);
    });
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(ends[rank].error, rank == 1 ? "" : "rank 1 is lost: killed by signal 9")
          << "rank " << rank << " of " << ranks;
    }
  }
}

std::string name_of_case(const testing::TestParamInfo<std::tuple<OpKind, bool>>& info) {
  return std::string(name_of(std::get<0>(info.param))) +
         (std::get<1>(info.param) ? "_shared" : "_heap");
}

INSTANTIATE_TEST_SUITE_P(
    Operations, KilledInTheMiddle,
    testing::Combine(testing::Values(OpKind::kAllReduce, OpKind::kReduceScatter, OpKind::kAllGather,
                                     OpKind::kAllToAll, OpKind::kBroadcast, OpKind::kReduce,
                                     OpKind::kGather, OpKind::kScatter, OpKind::kSend,
                                     OpKind::kRecv, OpKind::kBarrier, OpKind::kAllocate,
                                     OpKind::kSplit),
                     testing::Bool()),
    name_of_case);

std::vector<pid_t> processes_of(Communicator& world) {
  pid_t own = getpid();
  std::vector<pid_t> all(world.size());
  world.all_gather(buffer_of<pid_t>(all), {&own, 1, DType::kI32}).wait();
  return all;
}

TEST(StoppedRank, GoesOnWhereItWas) {
  expect_all_well(run_rank_processes(3, [](Communicator& world) {
    const std::vector<pid_t> processes = processes_of(world);
    std::vector<float> x(500'000);
    for (int round = 0; round < 3; ++round) {
      if (world.rank() == 0) kill(processes[1], SIGSTOP);
      std::thread waker;
      if (world.rank() == 0) {
        waker = std::thread([&] {
          std::this_thread::sleep_for(300ms);
          kill(processes[1], SIGCONT);
        });
      }
      for (int i = 0; i < 20; ++i) {
        std::fill(x.begin(), x.end(), 1.0f);
        world.all_reduce(buffer_of<float>(x)).wait();
        ASSERT_EQ(x.back(), 3);
      }
      if (waker.joinable()) waker.join();
    }
  }));
}

TEST(StoppedRank, IsSaidToBeStoppedOnceTheTimeoutIsOver) {
  const auto ends = run_rank_processes(
      3,
      [](Communicator& world) {
        const std::vector<pid_t> processes = processes_of(world);
        if (world.rank() == 1) {
          raise(SIGSTOP);
          return;
        }
        std::string error;
        try {
          world.barrier({"a.cpp", 5});
        } catch (const CommError& caught) {
          error = caught.what();
        }
        // The other ranks fail before it continues.
        std::this_thread::sleep_for(100ms);
        kill(processes[1], SIGCONT);
        EXPECT_THAT(error, HasSubstr("rank 1 did not come to barrier() at a.cpp:5 within 0.3 s"));
        EXPECT_THAT(error, HasSubstr("its process is stopped"));
      },
      {.timeout = 300ms});
  expect_all_well(ends);
}

TEST(CrowdedHost, GivesNoFalseAlarm) {
  expect_all_well(run_rank_processes(8,
                                     [](Communicator& world) {
                                       const auto begin = std::chrono::steady_clock::now();
                                       std::vector<float> x(50'000);
                                       int go_on = 1;
                                       while (go_on != 0) {
                                         for (const std::int64_t count : {1, 1000, 50'000}) {
                                           std::fill(x.begin(), x.end(), 1.0f);
                                           world.all_reduce({x.data(), count, DType::kF32}).wait();
                                           ASSERT_EQ(x[count - 1], 8);
                                         }
                                         world.barrier();
                                         go_on =
                                             std::chrono::steady_clock::now() - begin < 3s ? 1 : 0;
                                         world.broadcast({&go_on, 1, DType::kI32}, 0).wait();
                                       }
                                     },
                                     {.timeout = 3s}));
}

/// What this process holds of shared worlds: mappings and descriptors.
std::vector<std::string> traces_of_worlds() {
  std::vector<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:trireme") != std::string::npos) found.push_back(line);
  }
  DIR* folder = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(folder)) {
    char target[256];
    const std::string path = std::string("/proc/self/fd/") + entry->d_name;
    const ssize_t length = readlink(path.c_str(), target, sizeof target);
    const std::string name(target, length > 0 ? length : 0);
    if (name.find("memfd:trireme") != std::string::npos) found.push_back(name);
  }
  closedir(folder);
  return found;
}

TEST(NextWorld, IsNotAffectedByTheOneThatFailed) {
  const std::vector<std::function<void(Communicator&)>> failures = {
      [](Communicator& world) {
        std::vector<float> x(100'000);
        const std::int64_t count = world.rank() == 1 ? 99'999 : 100'000;
        world.all_reduce({x.data(), count, DType::kF32}).wait();
      },
      [](Communicator& world) {
        if (world.rank() != 1) world.barrier();
      },
      [](Communicator& world) {
        const auto half = world.split(0);
        const Memory memory = half->allocate(1 << 20);
        std::vector<int> x(100'000);
        Work sent = half->send(buffer_of<int>(x), (world.rank() + 1) % world.size());
        throw DataError("row 17 is short");
      },
      [](Communicator& world) {
        world.abort(std::make_exception_ptr(CommError("given up", -1)));
        world.barrier();
      }};
  for (const auto& failure : failures) {
    EXPECT_THROW(run_ranks(3, failure, {.timeout = 200ms}), Error);
    EXPECT_THAT(traces_of_worlds(), testing::IsEmpty());
    run_ranks(3, [](Communicator& world) {
      std::vector<float> x(100'000, 1);
      world.all_reduce(buffer_of<float>(x)).wait();
      EXPECT_EQ(x.back(), 3);
      const auto all = world.split(0);
      const Memory memory = all->allocate(1 << 20);
      const auto* words = static_cast<const float*>(memory.data());
      EXPECT_EQ(std::count(words, words + (1 << 18), 0.0f), 1 << 18);
      int word = world.rank();
      all->broadcast({&word, 1, DType::kI32}, 2).wait();
      EXPECT_EQ(word, 2);
    });
  }
}

}  // namespace
}  // namespace trireme::test
