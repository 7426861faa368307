#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme::test {

/// One way to call a communicator, and the memory that calls work on.
struct NamedCall {
  std::string name;
  std::function<Work(Communicator&, std::vector<float>&)> start;
};

/// Every collective, and for each of its fields one that differs in nothing else: no two agree.
/// They need `kCallFloats` floats.
constexpr std::int64_t kCallFloats = 64'000;

/// 10 a rank in the mean, and 12 for rank `longest`; rank 0 and 1 differ.
inline std::vector<std::int64_t> counts_with_longest(int ranks, int longest) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(ranks), 10);
  counts[static_cast<std::size_t>(longest)] += 2;
  counts[static_cast<std::size_t>(1 - longest)] -= 2;
  return counts;
}

inline std::vector<NamedCall> different_calls(int ranks) {
  const auto at = [](std::vector<float>& x, std::int64_t begin, std::int64_t count,
                     DType dtype = DType::kF32) {
    return Buffer{x.data() + begin, count, dtype};
  };
  static constexpr std::int64_t kApart = 32'000;
  std::vector<NamedCall> calls;
  const auto add = [&](std::string name,
                       std::function<Work(Communicator&, std::vector<float>&)> call) {
    calls.push_back({std::move(name), std::move(call)});
  };
  for (const std::int64_t n : {12, 13, 6000}) {
    for (const DType dtype : {DType::kF32, DType::kI32}) {
      if (n == 13 && dtype == DType::kI32) continue;
      const std::string shape = std::to_string(n) + std::string(name_of(dtype));
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
        const std::string how = shape + " " + std::string(name_of(op));
        add("all_reduce " + how,
            [=](Communicator& c, auto& x) { return c.all_reduce(at(x, 0, n, dtype), op); });
        add("reduce_scatter " + how, [=](Communicator& c, auto& x) {
          return c.reduce_scatter(at(x, 0, n, dtype), at(x, kApart, n * ranks, dtype), op);
        });
        for (const int root : {0, 1}) {
          add("reduce " + how + " root " + std::to_string(root),
              [=](Communicator& c, auto& x) { return c.reduce(at(x, 0, n, dtype), root, op); });
        }
      }
      add("all_gather " + shape, [=](Communicator& c, auto& x) {
        return c.all_gather(at(x, kApart, n * ranks, dtype), at(x, 0, n, dtype));
      });
      add("all_to_all " + shape, [=](Communicator& c, auto& x) {
        return c.all_to_all(at(x, kApart, n * ranks, dtype), at(x, 0, n * ranks, dtype));
      });
      for (const int root : {0, 1}) {
        const std::string rooted = shape + " root " + std::to_string(root);
        add("broadcast " + rooted,
            [=](Communicator& c, auto& x) { return c.broadcast(at(x, 0, n, dtype), root); });
        add("gather " + rooted, [=](Communicator& c, auto& x) {
          return c.gather(at(x, kApart, n * ranks, dtype), at(x, 0, n, dtype), root);
        });
        add("scatter " + rooted, [=](Communicator& c, auto& x) {
          return c.scatter(at(x, 0, n, dtype), at(x, kApart, n * ranks, dtype), root);
        });
      }
    }
  }
  for (const int workers : {2 * ranks, 2 * ranks + 1}) {
    for (const double divisor : {1.0, 2.5}) {
      add("all_reduce over " + std::to_string(workers) + " / " + std::to_string(divisor),
          [=](Communicator& c, auto& x) {
            const ReductionTree tree(workers, ranks);
            const auto rows = static_cast<std::int64_t>(tree.nodes_of(c.rank()).size());
            // The tree must outlive the operation.
            c.all_reduce(at(x, 0, 12 * rows), tree, divisor).wait();
            return Work();
          });
    }
  }
  for (const int odd : {0, 1}) {
    // The longest piece is as long, and so is the whole.
    const std::vector<std::int64_t> counts = counts_with_longest(ranks, odd);
    const std::string pieces = "in pieces, the longest " + std::to_string(odd) + "'s";
    add("all_gather " + pieces, [=](Communicator& c, auto& x) {
      return c.all_gather(at(x, kApart, 10 * ranks), at(x, 0, counts[c.rank()]), counts);
    });
    add("reduce_scatter " + pieces, [=](Communicator& c, auto& x) {
      return c.reduce_scatter(at(x, 0, counts[c.rank()]), at(x, kApart, 10 * ranks), counts);
    });
    add("all_to_all " + pieces, [=](Communicator& c, auto& x) {
      // Every rank gets from itself what is missing.
      const std::vector<std::int64_t> same(static_cast<std::size_t>(ranks), counts[c.rank()]);
      return c.all_to_all(at(x, kApart, 10 * ranks), counts, at(x, 0, counts[c.rank()] * ranks),
                          same);
    });
  }
  add("barrier", [](Communicator& c, auto&) { return c.barrier(), Work(); });
  add("allocate", [](Communicator& c, auto&) { return c.allocate(10), Work(); });
  add("split", [](Communicator& c, auto&) { return c.split(0), Work(); });
  return calls;
}

}  // namespace trireme::test
