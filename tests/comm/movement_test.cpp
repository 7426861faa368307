#include <functional>

#include <sys/mman.h>

#include <atomic>
#include <new>

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
    for (const DType dtype : kAllTypes) {
      for (const std::int64_t count : {0, 1, 3, 1000}) body(place, dtype, count);
    }
    // Several pieces of a stage.
    body(place, DType::kF32, 200'003);
    body(place, DType::kU8, 300'001);
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
      for (const std::size_t bytes : {std::size_t{1}, std::size_t{5000}, std::size_t{5} << 20}) {
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
