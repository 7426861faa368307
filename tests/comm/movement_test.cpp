#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <new>
#include <numeric>

#include "tests/comm/backends.h"
#include "tests/comm/values.h"

namespace trireme::test {
namespace {

class Movement : public OnEveryBackend {};

/// What rank `from` has for rank `to` at position i.
int parcel(int from, int to, std::int64_t i) {
  return static_cast<int>((i * 3 + from * 17 + to * 29) % 101);
}

void for_each_case(const std::function<void(Place, DType, std::int64_t)>& body) {
  for (const Place place : kAllPlaces) {
    for (const DType dtype : all_types()) {
      for (const std::int64_t count : {0, 1, 3, 1000}) body(place, dtype, count);
    }
    // Several pieces of a stage.
    body(place, DType::kF32, many(200'003));
    body(place, DType::kU8, many(300'001));
  }
}

void fill(const Buffer& x, int from, int to) {
  for (std::int64_t i = 0; i < x.count; ++i) put(x, i, parcel(from, to, i));
}

void expect_filled(const Buffer& x, int from, int to) {
  for (std::int64_t i = 0; i < x.count; ++i) {
    ASSERT_TRUE(holds(x, i, parcel(from, to, i)))
        << name_of(x.dtype) << "[" << x.count << "], element " << i << " from " << from;
  }
}

Buffer piece(const Buffer& x, int which, std::int64_t count) {
  return x.slice(which * count, count);
}

TEST_P(Movement, BroadcastReachesEveryRankFromEveryRoot) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t count) {
      Space space(world, place, dtype, count);
      for (int root = 0; root < world.size(); ++root) {
        fill(space.buffer(), world.rank(), 0);
        world.broadcast(space.buffer(), root).wait();
        expect_filled(space.buffer(), root, 0);
      }
    });
  });
}

TEST_P(Movement, AllGatherCollectsEveryPiece) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t count) {
      for (const bool in_place : {false, true}) {
        Space one(world, place, dtype, count);
        Space all(world, place, dtype, count * world.size());
        const Buffer in = in_place ? piece(all.buffer(), world.rank(), count) : one.buffer();
        fill(in, world.rank(), 0);
        world.all_gather(all.buffer(), in).wait();
        for (int peer = 0; peer < world.size(); ++peer) {
          expect_filled(piece(all.buffer(), peer, count), peer, 0);
        }
      }
    });
  });
}

TEST_P(Movement, AllToAllTransposesThePieces) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t count) {
      Space in(world, place, dtype, count * world.size());
      Space out(world, place, dtype, count * world.size());
      for (int peer = 0; peer < world.size(); ++peer) {
        fill(piece(in.buffer(), peer, count), world.rank(), peer);
      }
      world.all_to_all(out.buffer(), in.buffer()).wait();
      for (int peer = 0; peer < world.size(); ++peer) {
        expect_filled(piece(out.buffer(), peer, count), peer, world.rank());
      }
    });
  });
}

// Different on every rank, and 0 on some.
std::vector<std::int64_t> uneven_counts(int ranks, std::int64_t scale, int shift = 0) {
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back((rank + shift) % 3 * scale + rank % 2);
  return counts;
}

std::int64_t sum_of(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

// What lies beside a buffer, and must not be touched: NaNs, where the type has them.
class Fenced {
 public:
  Fenced(Communicator& world, Place place, DType dtype, std::int64_t count)
      : space_(world, place, dtype, count + 2 * kFence) {
    std::memset(space_.buffer().data, 0xff, space_.buffer().bytes());
  }
  Buffer buffer() { return space_.buffer().slice(kFence, space_.buffer().count - 2 * kFence); }
  bool is_intact() {
    const Buffer all = space_.buffer();
    return is_poison(all.slice(0, kFence)) && is_poison(all.slice(all.count - kFence, kFence));
  }

 private:
  static constexpr std::int64_t kFence = 64;
  static bool is_poison(const Buffer& x) {
    const auto* bytes = x.as<unsigned char>();
    return std::all_of(bytes, bytes + x.bytes(), [](unsigned char byte) { return byte == 0xff; });
  }
  Space space_;
};

void for_each_scale(const std::function<void(Place, DType, std::int64_t)>& body) {
  for (const Place place : kAllPlaces) {
    for (const DType dtype : all_types()) {
      for (const std::int64_t scale : {0, 1, 5, 700}) body(place, dtype, scale);
    }
    // Several chunks at a time.
    body(place, DType::kF32, many(150'003));
  }
}

TEST_P(Movement, AllGatherTakesPiecesOfDifferentSizes) {
  run([](Communicator& world) {
    for_each_scale([&](Place place, DType dtype, std::int64_t scale) {
      const auto counts = uneven_counts(world.size(), scale);
      for (const bool in_place : {false, true}) {
        Fenced one(world, place, dtype, counts[world.rank()]);
        Fenced all(world, place, dtype, sum_of(counts));
        const std::int64_t before = sum_of({counts.begin(), counts.begin() + world.rank()});
        const Buffer in =
            in_place ? all.buffer().slice(before, counts[world.rank()]) : one.buffer();
        fill(in, world.rank(), 0);
        world.all_gather(all.buffer(), in, counts).wait();
        std::int64_t first = 0;
        for (int peer = 0; peer < world.size(); ++peer) {
          expect_filled(all.buffer().slice(first, counts[peer]), peer, 0);
          first += counts[peer];
        }
        ASSERT_TRUE(all.is_intact() && one.is_intact());
      }
    });
  });
}

TEST_P(Movement, AllToAllTakesPiecesOfDifferentSizes) {
  run([](Communicator& world) {
    for_each_scale([&](Place place, DType dtype, std::int64_t scale) {
      std::vector<std::int64_t> sent, received;
      for (int peer = 0; peer < world.size(); ++peer) {
        sent.push_back(uneven_counts(world.size(), scale, world.rank())[peer]);
        received.push_back(uneven_counts(world.size(), scale, peer)[world.rank()]);
      }
      Fenced in(world, place, dtype, sum_of(sent));
      Fenced out(world, place, dtype, sum_of(received));
      std::int64_t first = 0;
      for (int peer = 0; peer < world.size(); ++peer) {
        fill(in.buffer().slice(first, sent[peer]), world.rank(), peer);
        first += sent[peer];
      }
      world.all_to_all(out.buffer(), received, in.buffer(), sent).wait();
      first = 0;
      for (int peer = 0; peer < world.size(); ++peer) {
        expect_filled(out.buffer().slice(first, received[peer]), peer, world.rank());
        first += received[peer];
      }
      ASSERT_TRUE(in.is_intact() && out.is_intact());
    });
  });
}

TEST_P(Movement, UnevenCallsMayBeUnderWayBesideOthers) {
  run([](Communicator& world) {
    const auto counts = uneven_counts(world.size(), 3000, 1);
    std::vector<std::vector<std::int64_t>> xs;
    std::vector<Work> works;
    for (int i = 0; i < 40; ++i) {
      std::vector<std::int64_t> x(static_cast<std::size_t>(sum_of(counts)));
      const std::int64_t first = sum_of({counts.begin(), counts.begin() + world.rank()});
      std::fill_n(x.begin() + first, counts[world.rank()], world.rank() + i);
      xs.push_back(std::move(x));
    }
    for (auto& x : xs) {
      const std::int64_t first = sum_of({counts.begin(), counts.begin() + world.rank()});
      const Buffer all = buffer_of<std::int64_t>(x);
      works.push_back(world.all_gather(all, all.slice(first, counts[world.rank()]), counts));
      works.push_back(world.all_reduce(all.slice(0, 0)));
    }
    while (!works.empty()) works.pop_back();
    for (int i = 0; i < 40; ++i) {
      std::vector<std::int64_t> expected;
      for (int peer = 0; peer < world.size(); ++peer) {
        expected.insert(expected.end(), static_cast<std::size_t>(counts[peer]), peer + i);
      }
      ASSERT_EQ(xs[i], expected);
    }
  });
}

TEST_P(Movement, GatherCollectsOnTheRootAlone) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t count) {
      const int root = static_cast<int>(count) % world.size();
      Space in(world, place, dtype, count);
      Space out(world, place, dtype, count * world.size());
      fill(in.buffer(), world.rank(), root);
      world.gather(world.rank() == root ? out.buffer() : Buffer{}, in.buffer(), root).wait();
      for (int peer = 0; world.rank() == root && peer < world.size(); ++peer) {
        expect_filled(piece(out.buffer(), peer, count), peer, root);
      }
    });
  });
}

TEST_P(Movement, ScatterDealsOutTheRootsPieces) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t count) {
      for (const bool in_place : {false, true}) {
        const int root = static_cast<int>(count) % world.size();
        const bool is_root = world.rank() == root;
        Space in(world, place, dtype, count * world.size());
        Space out(world, place, dtype, count);
        for (int peer = 0; peer < world.size(); ++peer) {
          fill(piece(in.buffer(), peer, count), root, peer);
        }
        const Buffer mine = in_place && is_root ? piece(in.buffer(), root, count) : out.buffer();
        world.scatter(mine, is_root ? in.buffer() : Buffer{}, root).wait();
        expect_filled(mine, root, world.rank());
      }
    });
  });
}

TEST_P(Movement, NoRankPassesABarrierBeforeAllHaveCome) {
  // What threads and forked processes see of each other without any communicator.
  void* shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* reached = new (shared) std::atomic<int>[16] {};
  run([&](Communicator& world) {
    for (int round = 1; round <= 200; ++round) {
      reached[world.rank()] = round;
      world.barrier();
      for (int peer = 0; peer < world.size(); ++peer) {
        if (share_mappings()) {
          ASSERT_EQ(reached[peer], round);
        }
      }
      world.barrier();
    }
  });
  munmap(shared, 4096);
}

TEST_P(Movement, ManyOperationsMayBeUnderWay) {
  run([](Communicator& world) {
    std::vector<std::vector<std::int64_t>> xs;
    std::vector<Work> works;
    for (int i = 0; i < 100; ++i) xs.emplace_back(i % 3 == 0 ? 50'000 : 10, world.rank() + i);
    for (auto& x : xs) works.push_back(world.all_reduce(buffer_of<std::int64_t>(x)));
    for (std::size_t i = works.size(); i-- > 0;) works[i].wait();
    const int n = world.size();
    for (int i = 0; i < 100; ++i) {
      ASSERT_EQ(xs[i], std::vector<std::int64_t>(xs[i].size(), n * (n - 1) / 2 + n * i));
    }
  });
}

TEST_P(Movement, TestMovesAnOperationOn) {
  run([](Communicator& world) {
    std::vector<float> x(200'000, 1);
    Work work = world.all_reduce(buffer_of<float>(x));
    while (!work.test()) {
    }
    EXPECT_EQ(x.front(), static_cast<float>(world.size()));
    EXPECT_TRUE(work.test());
  });
}

TEST_P(Movement, AllocatedMemoryIsZeroedAlignedAndVisible) {
  run([](Communicator& world) {
    for (int round = 0; round < 3; ++round) {
      for (const std::size_t bytes :
           {std::size_t{1}, std::size_t{5000}, std::size_t(many(5 << 20))}) {
        const Memory memory = world.allocate(bytes + world.rank());
        ASSERT_EQ(memory.bytes(), bytes + world.rank());
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 64, 0U);
        ASSERT_EQ(memory.peer(world.rank()), memory.data());
        auto* mine = static_cast<unsigned char*>(memory.data());
        for (std::size_t i = 0; i < memory.bytes(); ++i) ASSERT_EQ(mine[i], 0);
        std::memset(mine, world.rank() + 1, memory.bytes());
        world.barrier();
        for (int peer = 0; peer < world.size(); ++peer) {
          ASSERT_EQ(memory.peer(peer) != nullptr, share_memory(world.rank(), peer));
          if (memory.peer(peer) == nullptr) continue;
          ASSERT_EQ(static_cast<unsigned char*>(memory.peer(peer))[bytes - 1], peer + 1);
        }
        world.barrier();
      }
    }
    const Memory nothing = world.allocate(0);
    EXPECT_EQ(nothing.bytes(), 0U);
  });
}

TRIREME_ON_EVERY_BACKEND(Movement);

}  // namespace
}  // namespace trireme::test
