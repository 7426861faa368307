#include <gtest/gtest.h>

#include <vector>

#include "trireme/comm/mpi/mpi.h"

namespace trireme::test {
namespace {

message::Deadline soon() {
  return std::chrono::steady_clock::now() + std::chrono::minutes(1);
}

class MpiNative : public testing::Test {
 protected:
  int rank() const { return world_->rank(); }
  int size() const { return world_->size(); }

  bool carry_out(OpKind kind, Buffer out, Buffer in, std::int64_t count,
                 ReduceOp op = ReduceOp::kSum, int root = 0) {
    Operation operation;
    operation.kind = kind;
    operation.dtype = out.dtype;
    operation.op = op == ReduceOp::kMean ? ReduceOp::kSum : op;
    operation.divisor = op == ReduceOp::kMean ? size() : 1;
    operation.root = root;
    operation.count = count;
    operation.in = in;
    operation.out = out;
    return world_->run_native(operation, soon());
  }
  bool carry_out(OpKind kind, Buffer x, ReduceOp op = ReduceOp::kSum, int root = 0) {
    return carry_out(kind, x, x, x.count, op, root);
  }

  // Element i of rank r is r + i % 5: sums are exact in every type.
  template <class T>
  std::vector<T> values(int of_rank, std::size_t count) const {
    std::vector<T> x(count);
    for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<T>(of_rank + i % 5);
    return x;
  }
  template <class T>
  T reduced(std::size_t i, ReduceOp op) const {
    const std::size_t low = i % 5;
    const std::size_t high = low + size() - 1;
    switch (op) {
      case ReduceOp::kSum:
        return static_cast<T>((low + high) * size() / 2.0);
      case ReduceOp::kMean:
        return static_cast<T>((low + high) / 2.0);
      case ReduceOp::kMin:
        return static_cast<T>(low);
      case ReduceOp::kMax:
        return static_cast<T>(high);
    }
    return T();
  }

  template <class T>
  void reduce_as() {
    for (const std::size_t count : {0, 1, 1000, 70'000}) {
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMean, ReduceOp::kMin, ReduceOp::kMax}) {
        if (op == ReduceOp::kMean && !is_floating(dtype_of<T>())) continue;
        auto x = values<T>(rank(), count);
        ASSERT_TRUE(carry_out(OpKind::kAllReduce, buffer_of<T>(x), op));
        for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(x[i], reduced<T>(i, op)) << i;

        x = values<T>(rank(), count);
        const int root = size() - 1;
        ASSERT_TRUE(carry_out(OpKind::kReduce, buffer_of<T>(x), op, root));
        for (std::size_t i = 0; rank() == root && i < count; ++i) {
          ASSERT_EQ(x[i], reduced<T>(i, op)) << i;
        }

        const auto in = values<T>(rank(), count * size());
        std::vector<T> out(count);
        ASSERT_TRUE(carry_out(OpKind::kReduceScatter, buffer_of<T>(out),
                              buffer_of(std::span(const_cast<T*>(in.data()), in.size())),
                              static_cast<std::int64_t>(count), op));
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_EQ(out[i], reduced<T>(rank() * count + i, op)) << i;
        }
      }
    }
  }

  std::unique_ptr<message::Transport> world_ = mpi::world();
};

TEST_F(MpiNative, ReductionsAreThoseOfTheClosedForm) {
  reduce_as<float>();
  reduce_as<double>();
  reduce_as<std::int32_t>();
  reduce_as<std::int64_t>();
  reduce_as<std::uint8_t>();
}

TEST_F(MpiNative, ReduceScatterMayLeaveItsPieceInPlace) {
  constexpr std::size_t kCount = 3000;
  auto in = values<double>(rank(), kCount * size());
  const Buffer all = buffer_of<double>(in);
  ASSERT_TRUE(carry_out(OpKind::kReduceScatter, all.slice(rank() * kCount, kCount), all, kCount));
  for (std::size_t i = rank() * kCount; i < (rank() + 1) * kCount; ++i) {
    ASSERT_EQ(in[i], reduced<double>(i, ReduceOp::kSum)) << i;
  }
}

TEST_F(MpiNative, AllGatherTakesAPieceInPlaceOnSomeRanks) {
  constexpr std::size_t kCount = 5000;
  std::vector<std::int64_t> out(kCount * size());
  auto in = values<std::int64_t>(rank() * 10, kCount);
  Buffer piece = buffer_of<std::int64_t>(in);
  if (rank() % 2 == 0) {
    piece = buffer_of<std::int64_t>(out).slice(rank() * kCount, kCount);
    std::copy(in.begin(), in.end(), piece.as<std::int64_t>());
  }
  ASSERT_TRUE(carry_out(OpKind::kAllGather, buffer_of<std::int64_t>(out), piece, kCount));
  for (int r = 0; r < size(); ++r) {
    const auto theirs = values<std::int64_t>(r * 10, kCount);
    ASSERT_TRUE(std::equal(theirs.begin(), theirs.end(), out.begin() + r * kCount)) << r;
  }
}

TEST_F(MpiNative, AllToAllTransposes) {
  constexpr std::size_t kCount = 2000;
  std::vector<std::int32_t> in(kCount * size()), out(kCount * size());
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = rank() * 100 + static_cast<int>(i / kCount);
  ASSERT_TRUE(carry_out(OpKind::kAllToAll, buffer_of<std::int32_t>(out),
                        buffer_of<std::int32_t>(in), kCount));
  for (std::size_t i = 0; i < out.size(); ++i) {
    ASSERT_EQ(out[i], static_cast<int>(i / kCount) * 100 + rank()) << i;
  }
}

TEST_F(MpiNative, BroadcastMovesEveryTypeAsBytes) {
  for (int root = 0; root < size(); ++root) {
    auto x = values<std::int32_t>(rank() == root ? 7 : 0, 9000);
    Buffer halves = buffer_of<std::int32_t>(x);
    halves.count *= 2;
    halves.dtype = DType::kBF16;
    ASSERT_TRUE(carry_out(OpKind::kBroadcast, halves, ReduceOp::kSum, root));
    ASSERT_EQ(x, values<std::int32_t>(7, 9000));
  }
}

TEST_F(MpiNative, IsRefusedWhereMpiHasNothingToOffer) {
  std::vector<std::uint8_t> memory(64);
  EXPECT_FALSE(carry_out(OpKind::kAllReduce, {memory.data(), 32, DType::kBF16}));
  EXPECT_FALSE(carry_out(OpKind::kReduce, {memory.data(), 32, DType::kF16}));
  EXPECT_FALSE(carry_out(OpKind::kBarrier, {memory.data(), 0, DType::kF32}));
  // Before it is looked at: there are no such bytes.
  EXPECT_FALSE(carry_out(OpKind::kBroadcast, {memory.data(), std::int64_t{1} << 29, DType::kF32}));
  EXPECT_FALSE(carry_out(OpKind::kAllReduce, {memory.data(), std::int64_t{1} << 31, DType::kU8}));
  Operation workers;
  workers.kind = OpKind::kAllReduce;
  workers.virtual_workers = 12;
  EXPECT_FALSE(world_->run_native(workers, soon()));
}

}  // namespace
}  // namespace trireme::test
