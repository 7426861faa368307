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
    int neighbours = 0;
    int replicas = 0;
    for (int rank = 0; rank < world.size(); ++rank) {
      if (rank / tensor == world.rank() / tensor) neighbours += 1 << rank;
      if (rank % tensor == world.rank() % tensor) replicas += 1 << rank;
    }
    EXPECT_EQ(sum_along(mesh, "tensor", 1 << world.rank()), neighbours);
    EXPECT_EQ(sum_along(mesh, "data", 1 << world.rank()), replicas);
    EXPECT_EQ(sum_along(mesh, "pipeline", 1 << world.rank()), 1 << world.rank());
  });
}

TRIREME_ON_EVERY_BACKEND(MeshOf);

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
