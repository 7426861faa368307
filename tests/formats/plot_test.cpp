#include "trireme/formats/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace trireme {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Straight down from 4 at 0.001 to 0 at 10, then out of the range.
Plot falling() {
  return {.title = "loss of <this> & that",
          .x_name = "rate",
          .y_name = "loss",
          .lines = {{.name = "single", .is_thin = true, .points = {{1e-3, 3}, {10, 1}}},
                    {.name = "mean", .points = {{1e-3, 4}, {1e-2, 3}, {1e-1, 2}, {1, 1}, {10, 0}}}},
          .marks = {{"here", 0.1}, {"outside", 1000}},
          .lowest = 0,
          .highest = 4};
}

TEST(Plot, OfCharactersHasEachPointInItsPlace) {
  EXPECT_EQ(text_of(falling(), 20, 5),
            "4 |*       |\n"
            "  |.   *   |\n"
            "  |        *\n"
            "  |        |   *   .\n"
            "0 |        |       *\n"
            "  +-----------------\n"
            "   0.001          10\n"
            "   loss over rate   * mean   . single   | here   | outside\n");
}

TEST(Plot, OfCharactersFitsItsColumns) {
  for (const int columns : {30, 60, 100}) {
    std::istringstream lines(text_of(falling(), columns, 7));
    std::vector<std::string> rows;
    for (std::string line; std::getline(lines, line);) rows.push_back(line);
    ASSERT_EQ(rows.size(), 7u + 3);
    for (std::size_t i = 0; i + 1 < rows.size(); ++i) EXPECT_LE(std::ssize(rows[i]), columns);
  }
}

TEST(Plot, DrawsWhatLiesBeyondTheRangeAtItsEnds) {
  Plot plot = falling();
  plot.lines[1].points = {{1e-3, 1e300}, {1, -5}, {10, std::numeric_limits<double>::quiet_NaN()}};
  const std::string text = text_of(plot, 20, 5);
  EXPECT_THAT(text, HasSubstr("4 |*       |       *\n"));
  EXPECT_THAT(text, HasSubstr("0 |        |   *\n"));
  EXPECT_THAT(svg_of(plot), Not(HasSubstr("nan")));
}

TEST(Plot, OfNothingIsStillAPlot) {
  const Plot plot{.title = "empty", .x_name = "x", .y_name = "y"};
  EXPECT_EQ(std::ranges::count(text_of(plot, 40, 5), '\n'), 8);
  EXPECT_THAT(svg_of(plot), HasSubstr("</svg>"));
}

TEST(Plot, AsSvgEscapesNamesAndDrawsEachLineAndMark) {
  const std::string svg = svg_of(falling());
  EXPECT_THAT(svg, AllOf(HasSubstr("loss of &lt;this&gt; &amp; that"), HasSubstr(">here</text>"),
                         HasSubstr("<title>mean</title>"), Not(HasSubstr(">outside</text>"))));
  // The mean begins in the upper left corner and ends in the lower right one.
  EXPECT_THAT(svg, HasSubstr("<polyline points=\"78.0,76.0 "));
  EXPECT_THAT(svg, HasSubstr("736.0,378.0 \""));
}

}  // namespace
}  // namespace trireme
