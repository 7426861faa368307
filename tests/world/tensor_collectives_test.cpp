#include "trireme/world/tensor_collectives.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <vector>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;

// Element (i, j) of what rank `rank` has.
at::Tensor values_of(int rank, std::int64_t rows) {
  return torch::arange(rows * 3, torch::kFloat64).view({rows, 3}) + 100.0 * rank;
}

TEST(TensorCollectives, MoveTensorsOfDifferentNumbersOfRows) {
  for (const int ranks : {1, 2, 3, 4}) {
    run_ranks(ranks, [](Communicator& world) {
      std::vector<std::int64_t> rows;
      std::vector<at::Tensor> all;
      for (int rank = 0; rank < world.size(); ++rank) {
        rows.push_back(rank % 2 * 4 + rank / 2);  // none on rank 0
        all.push_back(values_of(rank, rows.back()));
      }
      const at::Tensor expected = torch::cat(all);
      const at::Tensor out = torch::full_like(expected, NAN);
      all_gather(world, out, all[world.rank()], rows).wait();
      EXPECT_TRUE(out.equal(expected));

      const at::Tensor own = torch::full_like(all[world.rank()], NAN);
      reduce_scatter(world, own, expected * (world.rank() + 1), rows).wait();
      EXPECT_TRUE(own.equal(all[world.rank()] * (world.size() * (world.size() + 1) / 2)));

      // Rank r sends r + 1 rows to every rank.
      const std::vector<std::int64_t> sent(static_cast<std::size_t>(world.size()),
                                           world.rank() + 1);
      std::vector<std::int64_t> received;
      std::vector<at::Tensor> parts;
      for (int rank = 0; rank < world.size(); ++rank) {
        received.push_back(rank + 1);
        parts.push_back(values_of(rank, (rank + 1) * world.size())
                            .narrow(0, world.rank() * (rank + 1), rank + 1));
      }
      const at::Tensor turned = torch::full_like(torch::cat(parts), NAN);
      all_to_all(world, turned, values_of(world.rank(), (world.rank() + 1) * world.size()),
                 received, sent)
          .wait();
      EXPECT_TRUE(turned.equal(torch::cat(parts)));
    });
  }
}

TEST(TensorCollectives, KeepTheirTensorsAliveWhileTheyMove) {
  run_ranks(2, [](Communicator& world) {
    Work work = all_reduce(world, torch::ones({100'000}));
    work.wait();
    const at::Tensor x = values_of(world.rank(), 5);
    broadcast(world, x, 1).wait();
    EXPECT_TRUE(x.equal(values_of(1, 5)));
    const at::Tensor y = torch::zeros({5, 3}, torch::kFloat64);
    Work sending = send(world, x + world.rank(), 1 - world.rank(), 7);
    recv(world, y, 1 - world.rank(), 7).wait();
    sending.wait();
    EXPECT_TRUE(y.equal(values_of(1, 5) + (1 - world.rank())));
  });
}

TEST(TensorCollectives, RefuseWhatIsNotContiguousAndSayWhatToDo) {
  run_ranks(1, [](Communicator& world) {
    const at::Tensor x = torch::ones({4, 3});
    EXPECT_THAT(message_of<UsageError>([&] { all_reduce(world, x.t()); }),
                HasSubstr("all_reduce: x must be contiguous, got shape [3, 4] with strides [1, 3]; "
                          "pass x.contiguous()"));
    EXPECT_THAT(message_of<UsageError>([&] {
                  all_gather(world, x, torch::ones({4, 2}));
                }),
                HasSubstr("must agree in all dimensions but the first, got [4, 3] and [4, 2]"));
    EXPECT_THAT(message_of<UsageError>([&] { broadcast(world, at::Tensor(), 0); }),
                HasSubstr("broadcast: x must be a tensor, got an undefined one (rank 0 of 1)"));
  });
}

TEST(TensorCollectives, RefuseWhatCannotMoveAndNameIt) {
  const at::Tensor x = torch::ones({4, 3});
  const std::pair<at::Tensor, const char*> bad[] = {
      {at::Tensor(), "must be a tensor, got an undefined one"},
      {x.to_sparse(), "must be a dense tensor, got one of layout Sparse; pass"},
      {x.to_sparse_csr(), "must be a dense tensor, got one of layout SparseCsr; pass"},
      {at::quantize_per_tensor(x, 0.5, 0, at::kQInt8), "got a quantized one; pass"},
      {x.to(at::kMeta), "must lie on a CPU or a CUDA device, got one on meta; pass"},
      {x.to(at::kBool), "got Bool; pass"},
      {x.to(at::kShort), "got Short; pass"},
      {x.to(at::kComplexDouble), "got ComplexDouble; pass torch::view_as_real("},
      {torch::ones({4, 6}).slice(1, 0, 6, 2), "must be contiguous, got shape [4, 3] with strides"},
  };
  run_ranks(2, [&](Communicator& world) {
    for (const auto& [tensor, message] : bad) {
      SCOPED_TRACE(message);
      const auto says = [&](const char* what) {
        return testing::AllOf(testing::StartsWith(what), HasSubstr(message),
                              testing::EndsWith(fmt::format("(rank {} of 2)", world.rank())));
      };
      const auto error = [](const std::function<void()>& call) {
        return message_of<UsageError>(call);
      };
      EXPECT_THAT(error([&] { all_reduce(world, tensor); }), says("all_reduce: x "));
      EXPECT_THAT(error([&] { broadcast(world, tensor, 1); }), says("broadcast: x "));
      EXPECT_THAT(error([&] { send(world, tensor, 0); }), says("send: x "));
      EXPECT_THAT(error([&] { recv(world, tensor, 0); }), says("recv: x "));
      EXPECT_THAT(error([&] { all_gather(world, tensor, x); }), says("all_gather: out "));
      EXPECT_THAT(error([&] { all_gather(world, x, tensor); }), says("all_gather: in "));
      EXPECT_THAT(error([&] { reduce_scatter(world, tensor, x); }), says("reduce_scatter: out "));
      EXPECT_THAT(error([&] { reduce_scatter(world, x, tensor); }), says("reduce_scatter: in "));
      EXPECT_THAT(error([&] { all_to_all(world, tensor, x); }), says("all_to_all: out "));
      EXPECT_THAT(error([&] { all_to_all(world, x, tensor); }), says("all_to_all: in "));
    }
    // Nothing has moved: the communicator is as good as before.
    const at::Tensor sum = torch::ones({4, 3});
    all_reduce(world, sum).wait();
    EXPECT_TRUE(sum.equal(x * 2));
  });
}

}  // namespace
}  // namespace trireme::test
