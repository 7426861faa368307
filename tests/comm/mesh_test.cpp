#include "trireme/comm/mesh.h"

#include <gmock/gmock.h>

#include "tests/comm/backends.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

class MeshOf : public OnEveryBackend {};

int sum_along(const Mesh& mesh, const char* axis, int value) {
  mesh.along(axis).all_reduce({&value, 1, DType::kI32}).wait();
  return value;
}

TEST_P(MeshOf, CutsTheWorldInMixedRadixTheLastAxisFastest) {
  run([](Communicator& world) {
    const int tensor = world.size() % 2 == 0 ? 2 : 1;
    const Mesh mesh(world, {{"data"}, {"tensor", tensor}, {"pipeline", 1}});
    EXPECT_EQ(mesh.axes()[0].size, world.size() / tensor);
    EXPECT_EQ(mesh.coordinate("tensor"), world.rank() % tensor);
    EXPECT_EQ(mesh.coordinate("data"), world.rank() / tensor);
    EXPECT_EQ(mesh.coordinate("pipeline"), 0);
    int neighbors = 0;
    int replicas = 0;
    for (int rank = 0; rank < world.size(); ++rank) {
      if (rank / tensor == world.rank() / tensor) neighbors += 1 << rank;
      if (rank % tensor == world.rank() % tensor) replicas += 1 << rank;
    }
    EXPECT_EQ(sum_along(mesh, "tensor", 1 << world.rank()), neighbors);
    EXPECT_EQ(sum_along(mesh, "data", 1 << world.rank()), replicas);
    EXPECT_EQ(sum_along(mesh, "pipeline", 1 << world.rank()), 1 << world.rank());
  });
}

int sum_along(Mesh& mesh, std::initializer_list<std::string_view> axes, int value) {
  mesh.along(axes).all_reduce({&value, 1, DType::kI32}).wait();
  return value;
}

TEST_P(MeshOf, AProductOfAxesHasTheRanksThatDifferAlongThemOnly) {
  run([](Communicator& world) {
    const int inner = world.size() % 2 == 0 ? 2 : 1;
    Mesh mesh(world, {{"data"}, {"context", 1}, {"tensor", inner}});
    const int rank = world.rank();
    const int all = (1 << world.size()) - 1;
    EXPECT_EQ(sum_along(mesh, {"data", "tensor"}, 1 << rank), all);
    EXPECT_EQ(mesh.along({"tensor", "context", "data"}).rank(), rank);
    EXPECT_EQ(sum_along(mesh, {"data", "context"}, 1 << rank), sum_along(mesh, "data", 1 << rank));
    EXPECT_EQ(sum_along(mesh, {"context"}, 1 << rank), 1 << rank);
    // The same communicator each time.
    EXPECT_EQ(&mesh.along({"data", "tensor"}), &mesh.along({"tensor", "data"}));
  });
}

TEST_P(MeshOf, AViewOfAProductPlacesTheSameRanksAnew) {
  run([](Communicator& world) {
    const int inner = world.size() % 2 == 0 ? 2 : 1;
    Mesh mesh(world, {{"data"}, {"tensor", inner}});
    const Mesh experts(mesh.along({"data", "tensor"}),
                       {{"expert_data", 1}, {"expert", world.size()}});
    EXPECT_EQ(experts.coordinate("expert"), world.rank());
    EXPECT_EQ(sum_along(experts, "expert", 1), world.size());
  });
}

TRIREME_ON_EVERY_BACKEND(MeshOf);

TEST(Mesh, ProductsOfFourAxesHaveTheirRanksInOrder) {
  run_ranks(24, [](Communicator& world) {
    Mesh mesh(world, {{"pipeline", 2}, {"data", 3}, {"context", 2}, {"tensor", 2}});
    const int rank = world.rank();
    const auto members = [&](Communicator& part) {
      std::vector<int> ranks(static_cast<std::size_t>(part.size()));
      int mine = rank;
      part.all_gather(buffer_of<int>(ranks), {&mine, 1, DType::kI32}).wait();
      return ranks;
    };
    // The oracle: all ranks with the same coordinates elsewhere, in rising order.
    const auto expected = [&](int p, int d, int c, int t) {
      std::vector<int> ranks;
      for (int other = 0; other < 24; ++other) {
        const bool same = (p || other / 12 == rank / 12) && (d || other / 4 % 3 == rank / 4 % 3) &&
                          (c || other / 2 % 2 == rank / 2 % 2) && (t || other % 2 == rank % 2);
        if (same) ranks.push_back(other);
      }
      return ranks;
    };
    EXPECT_EQ(members(mesh.along({"data", "context"})), expected(0, 1, 1, 0));
    EXPECT_EQ(members(mesh.along({"pipeline", "tensor"})), expected(1, 0, 0, 1));
    EXPECT_EQ(members(mesh.along({"tensor", "data", "context"})), expected(0, 1, 1, 1));
    EXPECT_EQ(mesh.world_rank("pipeline", 1 - rank / 12), (rank + 12) % 24);
    EXPECT_EQ(mesh.world_rank("data", mesh.coordinate("data")), rank);
    EXPECT_THROW(mesh.world_rank("data", 3), UsageError);
    EXPECT_THROW(mesh.along({"data", "data"}), UsageError);
    EXPECT_THROW(mesh.along(std::span<const std::string_view>()), UsageError);
    EXPECT_THROW(mesh.along({"data", "expert"}), UsageError);
  });
}

std::string refusal_of(std::vector<Axis> axes) {
  std::string message = "nothing was thrown";
  run_ranks(4, [&](Communicator& world) {
    try {
      const Mesh mesh(world, axes);
      mesh.along("sequence");
    } catch (const UsageError& error) {
      if (world.rank() == 0) message = error.what();
    }
  });
  return message;
}

TEST(Mesh, RefusesAxesThatDoNotFitTheWorld) {
  using testing::HasSubstr;
  EXPECT_THAT(refusal_of({{"data", 3}}),
              HasSubstr("multiply to the 4 ranks of the world, got data 3"));
  EXPECT_THAT(refusal_of({{"data"}, {"tensor", 3}}), HasSubstr("got data 0 x tensor 3"));
  EXPECT_THAT(refusal_of({{"data"}, {"tensor"}}), HasSubstr("one may be left open"));
  EXPECT_THAT(refusal_of({{"data", 2}, {"data", 2}}), HasSubstr("got \"data\" twice"));
  EXPECT_THAT(refusal_of({{"", 4}}), HasSubstr("axes must have names"));
  EXPECT_THAT(refusal_of({}), HasSubstr("got no axis"));
  EXPECT_THAT(refusal_of({{"data", 4}}), HasSubstr("no axis \"sequence\"; there are data 4"));
}

}  // namespace
}  // namespace trireme::test
