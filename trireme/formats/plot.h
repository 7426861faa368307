#pragma once

#include <string>
#include <vector>

namespace trireme {

/// Lines over a logarithmic x axis, with vertical marks.
struct Plot {
  struct Point {
    double x = 0;  ///< positive
    double y = 0;
  };
  struct Line {
    std::string name;
    bool is_thin = false;  ///< drawn behind the others: single runs behind their mean
    std::vector<Point> points;
  };
  struct Mark {
    std::string name;
    double x = 0;
  };

  std::string title;
  std::string x_name;
  std::string y_name;
  std::vector<Line> lines;
  std::vector<Mark> marks;
  /// Of the y axis; what lies beyond is drawn at its ends.
  double lowest = 0, highest = 1;
};

/// Returns the plot as a self-contained SVG document.
std::string svg_of(const Plot& plot);

/// Returns the plot as lines of ASCII characters, at most `columns` wide and with `rows` lines for
/// the values: thin lines as '.', the others as '*', marks as '|'.
///
///     2.31 |********...      |
///          |        ***.     |   .
///     0.12 |           ******|***
///          +---------------------
///           1e-04    1e-02    1
///           loss over lr   * smoothed   . repeats   | suggested: 0.1
std::string text_of(const Plot& plot, int columns, int rows);

}  // namespace trireme
