#include "trireme/base/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <functional>

#include "tests/formats/error_of.h"
#include "trireme/base/error.h"
#include "trireme/base/runs.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Calls `at` with every place of the mesh.
void for_each_place(Coordinates mesh, const std::function<void(const Coordinates&)>& at,
                    std::size_t axis = 0) {
  if (axis == mesh.size()) return at(mesh);
  for (int i = 0; i < mesh[axis].size; ++i) {
    mesh[axis].index = i;
    for_each_place(mesh, at, axis + 1);
  }
}

std::vector<std::int64_t> elements(const Region& region) {
  std::vector<std::int64_t> all;
  for (const Run& run : runs_of(region)) {
    for (std::int64_t i = 0; i < run.count; ++i) all.push_back(run.full + i);
  }
  return all;
}

// Sizes that add up to `size`.
std::vector<std::int64_t> random_parts(std::int64_t size) {
  std::vector<std::int64_t> parts;
  const int count = *rc::gen::inRange(1, 4);
  for (int i = 1; i < count; ++i) {
    parts.push_back(*rc::gen::inRange<std::int64_t>(0, size + 1));
    size -= parts.back();
  }
  parts.push_back(size);
  return parts;
}

struct Placed {
  Coordinates mesh;
  Layout layout;
};

Placed random_layout() {
  Placed placed;
  for (const char* axis : {"pipeline", "data", "context", "tensor", "expert"}) {
    placed.mesh.push_back({axis, 0, *rc::gen::inRange(1, 4)});
  }
  Layout& layout = placed.layout;
  layout.full_shape.resize(*rc::gen::inRange<std::size_t>(0, 4));
  for (auto& size : layout.full_shape) size = *rc::gen::inRange<std::int64_t>(0, 9);
  if (!layout.full_shape.empty()) {
    if (*rc::gen::arbitrary<bool>()) layout.full_shape[0] *= 2000;  // more than one block
    const auto dims = static_cast<int>(layout.full_shape.size());
    const int first = *rc::gen::inRange(0, dims);
    for (const auto& [axis, dim] : {std::pair{3, first}, std::pair{4, (first + 1) % dims}}) {
      if (!*rc::gen::arbitrary<bool>() || (axis == 4 && dim == first)) continue;
      const auto& place = placed.mesh[static_cast<std::size_t>(axis)];
      layout.cuts.push_back(
          {.dim = dim,
           .axis = place.axis,
           .shards = place.size * *rc::gen::inRange(0, 4),
           .parts = random_parts(layout.full_shape[static_cast<std::size_t>(dim)])});
    }
  }
  if (*rc::gen::arbitrary<bool>()) {
    layout.stage = PipelineStage{"pipeline", *rc::gen::inRange(0, placed.mesh[0].size)};
  }
  if (*rc::gen::arbitrary<bool>()) layout.sliced.push_back("context");
  if (*rc::gen::arbitrary<bool>()) layout.sliced.push_back("data");
  return placed;
}

RC_GTEST_PROP(Layout, CountsEveryElementOnce, ()) {
  const Placed placed = random_layout();
  std::vector<int> counts(static_cast<std::size_t>(elements_of(placed.layout.full_shape)));
  for_each_place(placed.mesh, [&](const Coordinates& place) {
    require_valid(placed.layout, place);
    if (!counts_here(placed.layout, place)) return;
    for (const auto element : elements(region_of(placed.layout, place))) {
      ++counts[static_cast<std::size_t>(element)];
    }
  });
  RC_ASSERT(std::ranges::all_of(counts, [](int count) { return count == 1; }));
}

// The index in every dimension gives the coordinates that hold an element, part by part.
RC_GTEST_PROP(Layout, CutsEachPartByItself, ()) {
  const Placed placed = random_layout();
  for_each_place(placed.mesh, [&](const Coordinates& place) {
    if (!exists_here(placed.layout, place)) {
      RC_ASSERT(region_of(placed.layout, place).count() == 0);
      return;
    }
    Layout whole_cuts = placed.layout;
    whole_cuts.sliced.clear();
    std::vector<std::int64_t> expected;
    for (std::int64_t e = 0; e < elements_of(whole_cuts.full_shape); ++e) {
      bool is_here = true;
      for (const AxisCut& cut : whole_cuts.cuts) {
        std::int64_t stride = 1;
        for (auto d = whole_cuts.full_shape.size() - 1; static_cast<int>(d) > cut.dim; --d) {
          stride *= whole_cuts.full_shape[d];
        }
        std::int64_t index = e / stride % whole_cuts.full_shape[static_cast<std::size_t>(cut.dim)];
        const auto axis = std::ranges::find(place, cut.axis, &Coordinate::axis);
        const int shards = cut.shards == 0 ? axis->size : cut.shards;
        std::size_t part = 0;
        while (index >= cut.parts[part]) index -= cut.parts[part++];
        int shard = 0;
        while (!partition(cut.parts[part], shards, shard).contains(index)) ++shard;
        is_here = is_here && shard / (shards / axis->size) == axis->index;
      }
      if (is_here) expected.push_back(e);
    }
    RC_ASSERT(elements(region_of(whole_cuts, place)) == expected);
  });
}

RC_GTEST_PROP(Layout, SlicesBeginAtBlocks, ()) {
  const Placed placed = random_layout();
  for_each_place(placed.mesh, [&](const Coordinates& place) {
    const Region region = region_of(placed.layout, place);
    if (region.count() > 0) RC_ASSERT(region.range().begin % kBlockElements == 0);
  });
}

TEST(Layout, CutsQueryKeyAndValueByThemselves) {
  const Layout fused{.full_shape = {16, 2},
                     .cuts = {{.dim = 0, .axis = "tensor", .parts = {8, 4, 4}}}};
  const Region second = region_of(fused, {{"data", 1, 2}, {"tensor", 1, 2}});
  EXPECT_THAT(second.cuts()[0].kept, ElementsAre(Range{4, 8}, Range{10, 12}, Range{14, 16}));
  EXPECT_THAT(second.local_shape(), ElementsAre(8, 2));
}

// With a fixed number of shards, what shard 3 holds does not depend on the number of ranks.
TEST(Layout, GivesARankConsecutiveShards) {
  Layout layout{.full_shape = {10}, .cuts = {{.dim = 0, .axis = "tensor", .shards = 4}}};
  EXPECT_EQ(region_of(layout, {{"tensor", 3, 4}}).cuts()[0].kept, (std::vector<Range>{{8, 10}}));
  EXPECT_EQ(region_of(layout, {{"tensor", 1, 2}}).cuts()[0].kept, (std::vector<Range>{{6, 10}}));
}

TEST(Layout, OfACopyCountsOnTheFirstRankOnly) {
  const Layout copied{.full_shape = {3}};
  EXPECT_TRUE(counts_here(copied, {{"data", 0, 2}, {"tensor", 0, 2}}));
  EXPECT_FALSE(counts_here(copied, {{"data", 1, 2}, {"tensor", 0, 2}}));
  EXPECT_FALSE(counts_here(copied, {{"data", 0, 2}, {"tensor", 1, 2}}));
}

TEST(Layout, OfATiedParameterNeverCounts) {
  const Layout tied{.full_shape = {3}, .tied = "embedding.weight"};
  EXPECT_FALSE(counts_here(tied, {{"data", 0, 2}}));
}

TEST(Layout, SaysAlongWhichAxesToReduce) {
  const Layout norm{.full_shape = {3}, .partial = {"tensor", "data", "context"}};
  const Coordinates place = {{"data", 0, 2}, {"context", 0, 1}, {"tensor", 0, 2}};
  EXPECT_THAT(reduction_axes(norm, place), ElementsAre("data", "tensor"));
  EXPECT_THAT(reduction_axes({.full_shape = {3}}, place), ElementsAre());
}

TEST(Layout, DistinguishesMatricesFromBiasesAndNorms) {
  EXPECT_EQ(kind_of(TensorShape{4, 5}), ParameterKind::kMatrix);
  EXPECT_EQ(kind_of(TensorShape{4}), ParameterKind::kVector);
  EXPECT_EQ(kind_of(TensorShape{}), ParameterKind::kVector);
}

TEST(Layout, RefusesWhatDoesNotFitTheMesh) {
  const Coordinates place = {{"data", 0, 2}, {"tensor", 0, 2}};
  const auto refusal = [&](Layout layout) {
    layout.full_shape = {6, 4};
    return error_of<UsageError>([&] { require_valid(layout, place); });
  };
  EXPECT_THAT(refusal({.cuts = {{.dim = 0, .axis = "expert"}}}),
              HasSubstr("\"expert\" must be an axis of the mesh, which has [data, tensor]"));
  EXPECT_THAT(refusal({.cuts = {{.dim = 0, .axis = "tensor", .shards = 3}}}),
              HasSubstr("the 3 shards of dimension 0 must be a multiple of the 2 ranks"));
  EXPECT_THAT(refusal({.cuts = {{.dim = 0, .axis = "tensor", .parts = {2, 3}}}}),
              HasSubstr("the parts [2, 3] of dimension 0 must add up to its size 6"));
  EXPECT_THAT(refusal({.cuts = {{.dim = 2, .axis = "tensor"}}}), HasSubstr("got 2"));
  EXPECT_THAT(refusal({.cuts = {{.dim = 0, .axis = "tensor"}, {.dim = 1, .axis = "tensor"}}}),
              HasSubstr("\"tensor\" divides it twice"));
  EXPECT_THAT(refusal({.cuts = {{.dim = 0, .axis = "tensor"}, {.dim = 0, .axis = "data"}}}),
              HasSubstr("dimension 0 is cut twice"));
  EXPECT_THAT(refusal({.cuts = {{.dim = 0, .axis = "tensor"}}, .partial = {"tensor"}}),
              HasSubstr("a gradient cannot be partial along \"tensor\""));
  EXPECT_THAT(refusal({.stage = PipelineStage{"data", 2}}),
              HasSubstr("stage 2 must be one of the 2"));
}

}  // namespace
}  // namespace trireme
