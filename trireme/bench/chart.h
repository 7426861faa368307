#pragma once

#include <string>
#include <vector>

namespace trireme::bench {

/// Seconds over bytes, both on logarithmic axes: a line for each contender.
struct Chart {
  struct Point {
    double bytes = 0;
    double seconds = 0;
  };
  struct Line {
    std::string name;
    bool is_limit = false;      ///< drawn dashed and grey: no contender but a bound
    std::vector<Point> points;  ///< positive, ascending in bytes
  };

  std::string title;
  std::string subtitle;
  std::vector<Line> lines;
};

/// The chart as a self-contained SVG document.
std::string svg_of(const Chart& chart);

}  // namespace trireme::bench
