#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include "tests/comm/backends.h"
#include "tests/comm/values.h"
#include "trireme/base/partition.h"
#include "trireme/base/random.h"

namespace trireme::test {
namespace {

class Reduction : public OnEveryBackend {};

/// Of any magnitude, so that every order of summation gives other bits.
template <class T>
T contribution(std::int64_t worker, std::int64_t i) {
  const CounterRandom random(7, worker);
  return static_cast<T>(random.normal(i) * std::exp2(static_cast<double>(i % 9) - 4));
}

/// The oracle: the sum over virtual workers [first, first + count), a power of two of them.
template <class T>
T complete_sum(std::int64_t first, std::int64_t count, std::int64_t i) {
  if (count == 1) return contribution<T>(first, i);
  return complete_sum<T>(first, count / 2, i) + complete_sum<T>(first + count / 2, count / 2, i);
}

/// The sum over virtual workers [first, workers): the largest complete tree, then the rest.
template <class T>
T canonical_sum(std::int64_t first, std::int64_t workers, std::int64_t i) {
  std::int64_t size = 1;
  while (size * 2 <= workers - first) size *= 2;
  const T sum = complete_sum<T>(first, size, i);
  return first + size == workers ? sum : sum + canonical_sum<T>(first + size, workers, i);
}

template <class T>
void expect_canonical(const T* x, std::int64_t count, int workers, double divisor) {
  for (std::int64_t i = 0; i < count; ++i) {
    T expected = canonical_sum<T>(0, workers, i);
    if (divisor != 1) expected /= static_cast<T>(divisor);
    ASSERT_EQ(x[i], expected) << "element " << i << " of " << count;
  }
}

template <class T>
void sums_in_tree_order(Communicator& world, std::int64_t count, Place place, ReduceOp op) {
  Space space(world, place, dtype_of<T>(), count);
  const Buffer x = space.buffer();
  for (std::int64_t i = 0; i < count; ++i) x.as<T>()[i] = contribution<T>(world.rank(), i);
  world.all_reduce(x, op).wait();
  expect_canonical(x.as<T>(), count, world.size(), op == ReduceOp::kMean ? world.size() : 1);
}

TEST_P(Reduction, SumsInTheOrderOfTheTreeToTheLastBit) {
  run([](Communicator& world) {
    for (const Place place : kAllPlaces) {
      for (const std::int64_t count :
           {std::int64_t{0}, std::int64_t{1}, std::int64_t{3}, std::int64_t{1000}, many(100'003)}) {
        sums_in_tree_order<float>(world, count, place, ReduceOp::kSum);
        sums_in_tree_order<double>(world, count, place, ReduceOp::kMean);
      }
    }
  });
}

TEST_P(Reduction, SumsMillionsInPieces) {
  run([](Communicator& world) {
    for (const Place place : kAllPlaces) {
      constexpr std::int64_t kCount = many(3'000'017);
      Space space(world, place, DType::kF32, kCount);
      auto* x = space.buffer().as<float>();
      for (std::int64_t i = 0; i < kCount; ++i) x[i] = static_cast<float>(i % 997 + world.rank());
      world.all_reduce(space.buffer()).wait();
      const int n = world.size();
      for (std::int64_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(x[i], static_cast<float>(i % 997 * n + n * (n - 1) / 2)) << "element " << i;
      }
    }
  });
}

ReductionTree with_most_on_the_first(int workers, int ranks) {
  std::vector<double> weights(static_cast<std::size_t>(ranks), 1);
  weights[0] = 1000;
  return ReductionTree(partition_in_proportion(workers, weights));
}

// [nodes of this rank, count]: what it has summed of its virtual workers' contributions.
template <class T>
void fill_rows(const ReductionTree& tree, int rank, std::int64_t count, const Buffer& x) {
  const auto nodes = tree.nodes_of(rank);
  for (std::size_t row = 0; row < nodes.size(); ++row) {
    const std::int64_t width = std::int64_t{1} << nodes[row].level;
    for (std::int64_t i = 0; i < count; ++i) {
      x.as<T>()[row * count + i] = complete_sum<T>(nodes[row].index * width, width, i);
    }
  }
}

template <class T>
void sums_over_virtual_workers(Communicator& world, const ReductionTree& tree, double divisor,
                               std::int64_t count, Place place) {
  const auto rows = std::max<std::int64_t>(1, std::ssize(tree.nodes_of(world.rank())));
  Space space(world, place, dtype_of<T>(), count * rows);
  fill_rows<T>(tree, world.rank(), count, space.buffer());
  world.all_reduce(space.buffer(), tree, divisor).wait();
  expect_canonical(space.buffer().as<T>(), count, tree.virtual_workers(), divisor);
}

TEST_P(Reduction, OverVirtualWorkersHasTheBitsOfOneRankHoldingAll) {
  run([](Communicator& world) {
    const auto expect_bits = [&](const ReductionTree& tree, std::int64_t most) {
      for (const Place place : kAllPlaces) {
        for (const std::int64_t count :
             {std::int64_t{1}, std::int64_t{61}, std::int64_t{1000}, most}) {
          sums_over_virtual_workers<double>(world, tree, tree.virtual_workers(), count, place);
        }
      }
    };
    for (const int workers : {4, 7, 12, 13}) {
      expect_bits(ReductionTree(workers, world.size()), many(60'001));
      expect_bits(with_most_on_the_first(workers, world.size()), many(4'001));
    }
  });
}

TEST_P(Reduction, OverVirtualWorkersIsDividedByAnyDivisor) {
  run([](Communicator& world) {
    // 3 and 10/3 have no exact reciprocal: a product with it has other bits.
    for (const double divisor : {1.0, 3.0, 10.0 / 3, 4096.0, 1e-3}) {
      for (const int workers : {world.size(), 7}) {
        const ReductionTree tree(workers, world.size());
        for (const Place place : kAllPlaces) {
          for (const std::int64_t count :
               {std::int64_t{0}, std::int64_t{5}, std::int64_t{1000}, many(5'003)}) {
            sums_over_virtual_workers<float>(world, tree, divisor, count, place);
            sums_over_virtual_workers<double>(world, tree, divisor, count, place);
          }
        }
      }
    }
  });
}

std::uint16_t rounded_to_bf16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

TEST_P(Reduction, HalfTypesAreDividedBeforeTheyAreRounded) {
  run([](Communicator& world) {
    const ReductionTree tree(5, world.size());
    // Exact in bf16, which their sum of about 1000 is not.
    const auto value_of = [](const ReductionTree::Node& node) {
      return static_cast<int>((201 + 2 * node.index) << node.level);
    };
    float sum = 0;
    for (const auto& node : tree.terms()) sum += static_cast<float>(value_of(node));
    const auto nodes = tree.nodes_of(world.rank());
    for (const Place place : kAllPlaces) {
      for (const std::int64_t count : {7, 3'001}) {
        Space space(world, place, DType::kBF16, count * std::ssize(nodes));
        const Buffer x = space.buffer();
        for (std::int64_t i = 0; i < x.count; ++i) {
          put(x, i, value_of(nodes[static_cast<std::size_t>(i / count)]));
        }
        world.all_reduce(x, tree, 7).wait();
        for (std::int64_t i = 0; i < count; ++i) {
          ASSERT_EQ(x.as<std::uint16_t>()[i], rounded_to_bf16(sum / 7)) << i;
        }
      }
    }
  });
}

TEST_P(Reduction, ARankWithoutVirtualWorkersGetsTheSumToo) {
  run([](Communicator& world) {
    std::vector<Range> parts{{0, 3}};
    while (std::ssize(parts) < world.size()) parts.push_back({3, 3});
    const ReductionTree tree(parts);
    for (const Place place : kAllPlaces) {
      for (const std::int64_t count : {std::int64_t{1}, std::int64_t{1000}, many(40'001)}) {
        sums_over_virtual_workers<double>(world, tree, 7, count, place);
      }
    }
  });
}

int operand(int rank, std::int64_t i) {
  return static_cast<int>((i * 7 + rank * 5) % 13);
}

int expected_result(ReduceOp op, int ranks, std::int64_t i) {
  int result = operand(0, i);
  for (int rank = 1; rank < ranks; ++rank) {
    const int next = operand(rank, i);
    if (op == ReduceOp::kMin) result = std::min(result, next);
    if (op == ReduceOp::kMax) result = std::max(result, next);
    if (op == ReduceOp::kSum) result += next;
  }
  return result;
}

void for_each_case(const std::function<void(Place, DType, std::int64_t, ReduceOp)>& body) {
  for (const Place place : kAllPlaces) {
    for (const DType dtype : all_types()) {
      for (const std::int64_t count :
           {std::int64_t{0}, std::int64_t{5}, std::int64_t{1000}, many(20'001)}) {
        for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
          body(place, dtype, count, op);
        }
      }
    }
  }
}

TEST_P(Reduction, WorksForEveryTypeAndOperator) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t count, ReduceOp op) {
      Space space(world, place, dtype, count);
      const Buffer x = space.buffer();
      for (std::int64_t i = 0; i < count; ++i) put(x, i, operand(world.rank(), i));
      world.all_reduce(x, op).wait();
      for (std::int64_t i = 0; i < count; ++i) {
        ASSERT_TRUE(holds(x, i, expected_result(op, world.size(), i)))
            << name_of(dtype) << " " << name_of(op) << " " << i;
      }
    });
  });
}

TEST_P(Reduction, ReduceLeavesTheResultOnTheRoot) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t count, ReduceOp op) {
      Space space(world, place, dtype, count);
      const Buffer x = space.buffer();
      for (std::int64_t i = 0; i < count; ++i) put(x, i, operand(world.rank(), i));
      const int root = static_cast<int>(count) % world.size();
      world.reduce(x, root, op).wait();
      for (std::int64_t i = 0; world.rank() == root && i < count; ++i) {
        ASSERT_TRUE(holds(x, i, expected_result(op, world.size(), i)))
            << name_of(dtype) << " " << name_of(op) << " " << i;
      }
    });
  });
}

void reduce_scatters(Communicator& world, Place place, DType dtype, std::int64_t count, ReduceOp op,
                     bool in_place) {
  const int n = world.size();
  Space whole(world, place, dtype, count * n);
  Space piece(world, place, dtype, count);
  const Buffer in = whole.buffer();
  for (std::int64_t i = 0; i < count * n; ++i) put(in, i, operand(world.rank(), i));
  const std::int64_t first = world.rank() * count;
  const Buffer out = in_place ? in.slice(first, count) : piece.buffer();
  world.reduce_scatter(out, in, op).wait();
  for (std::int64_t i = 0; i < count; ++i) {
    ASSERT_TRUE(holds(out, i, expected_result(op, n, first + i)))
        << name_of(dtype) << " " << name_of(op) << " " << i;
  }
}

TEST_P(Reduction, ReduceScatterLeavesEachRankItsPiece) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t count, ReduceOp op) {
      reduce_scatters(world, place, dtype, count, op, false);
      reduce_scatters(world, place, dtype, count, op, true);
    });
  });
}

// Piece r: so many elements, some of them none.
std::vector<std::int64_t> counts_of(int ranks, std::int64_t scale) {
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back((rank + 1) % 3 * scale + rank % 2);
  return counts;
}

// The rows of the tree on this rank; rank r must get elements [first, first + counts[r]) of the
// sum, which is what all ranks' rows would give on one rank.
template <class T>
void scatters_over_virtual_workers(Communicator& world, const ReductionTree& tree, double divisor,
                                   const std::vector<std::int64_t>& counts, bool gives_counts,
                                   Place place, bool in_place) {
  const std::int64_t length = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  const auto rows = std::ssize(tree.nodes_of(world.rank()));
  const std::int64_t own = counts[world.rank()];
  const std::int64_t first =
      std::accumulate(counts.begin(), counts.begin() + world.rank(), std::int64_t{0});
  Space whole(world, place, dtype_of<T>(), length * std::max<std::int64_t>(rows, 1));
  Space apart(world, place, dtype_of<T>(), own + 2);
  std::fill_n(apart.buffer().as<T>(), own + 2, std::numeric_limits<T>::quiet_NaN());
  const Buffer in = whole.buffer().slice(0, length * rows);
  fill_rows<T>(tree, world.rank(), length, in);
  const Buffer out = in_place && rows > 0 ? in.slice(first, own) : apart.buffer().slice(1, own);
  if (gives_counts) {
    world.reduce_scatter(out, in, tree, divisor, counts).wait();
  } else {
    world.reduce_scatter(out, in, tree, divisor).wait();
  }
  for (std::int64_t i = 0; i < own; ++i) {
    T expected = canonical_sum<T>(0, tree.virtual_workers(), first + i);
    if (divisor != 1) expected /= static_cast<T>(divisor);
    ASSERT_EQ(out.as<T>()[i], expected) << "element " << i << " of " << own;
  }
  ASSERT_TRUE(std::isnan(apart.buffer().as<T>()[0]));
  ASSERT_TRUE(std::isnan(apart.buffer().as<T>()[own + 1]));
}

TEST_P(Reduction, ReduceScatterOverVirtualWorkersHasTheBitsOfOneRankHoldingAll) {
  run([](Communicator& world) {
    for (const int workers : {world.size(), 7, 12}) {
      const ReductionTree even(workers, world.size());
      const ReductionTree skewed = with_most_on_the_first(workers, world.size());
      for (const ReductionTree* tree : {&even, &skewed}) {
        for (const Place place : kAllPlaces) {
          for (const std::int64_t scale : {0, 1, 50, 3'001}) {
            const std::vector<std::int64_t> equal(static_cast<std::size_t>(world.size()), scale);
            scatters_over_virtual_workers<float>(world, *tree, 3, equal, false, place, false);
            scatters_over_virtual_workers<double>(world, *tree, 1, equal, true, place, true);
            scatters_over_virtual_workers<float>(
                world, *tree, 10.0 / 3, counts_of(world.size(), scale), true, place, scale == 50);
          }
        }
      }
    }
  });
}

TEST_P(Reduction, ReduceScatterOfManyElementsMovesInChunks) {
  run([](Communicator& world) {
    for (const Place place : kAllPlaces) {
      const ReductionTree tree(6, world.size());
      scatters_over_virtual_workers<double>(world, tree, 5, counts_of(world.size(), 40'001), true,
                                            place, false);
    }
  });
}

TEST_P(Reduction, ReduceScatterTakesPiecesOfDifferentSizes) {
  run([](Communicator& world) {
    for_each_case([&](Place place, DType dtype, std::int64_t scale, ReduceOp op) {
      const auto counts = counts_of(world.size(), scale);
      const std::int64_t length = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
      const std::int64_t first =
          std::accumulate(counts.begin(), counts.begin() + world.rank(), std::int64_t{0});
      Space whole(world, place, dtype, length);
      Space piece(world, place, dtype, counts[world.rank()]);
      for (std::int64_t i = 0; i < length; ++i) put(whole.buffer(), i, operand(world.rank(), i));
      world.reduce_scatter(piece.buffer(), whole.buffer(), counts, op).wait();
      for (std::int64_t i = 0; i < counts[world.rank()]; ++i) {
        ASSERT_TRUE(holds(piece.buffer(), i, expected_result(op, world.size(), first + i)))
            << name_of(dtype) << " " << name_of(op) << " " << i;
      }
    });
  });
}

TRIREME_ON_EVERY_BACKEND(Reduction);

}  // namespace
}  // namespace trireme::test
