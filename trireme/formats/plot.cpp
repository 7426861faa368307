#include "trireme/formats/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

namespace trireme {

namespace {

// Of the document, in its own units.
constexpr double kWidth = 760, kHeight = 440;
constexpr double kLeft = 78, kRight = 24, kTop = 76, kBottom = 62;

// Colors that color-blind readers can distinguish too (Okabe and Ito 2008).
constexpr std::array<std::string_view, 4> kColors = {"#0072b2", "#009e73", "#cc79a7", "#e69f00"};
constexpr std::string_view kThinColor = "#b6c2d1", kMarkColor = "#d55e00";

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&') {
      safe += "&amp;";
    } else if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else if (static_cast<unsigned char>(c) >= 0x20) {
      safe += c;
    }
  }
  return safe;
}

/// Where values lie, as parts of the axes: x by its logarithm, y held to its range.
class Scale {
 public:
  explicit Scale(const Plot& plot) : plot_(plot) {
    for (const Plot::Line& line : plot.lines) {
      for (const Plot::Point& point : line.points) {
        least_ = std::min(least_, point.x);
        most_ = std::max(most_, point.x);
      }
    }
    if (!(most_ > least_)) {
      least_ = most_ > 0 ? most_ / 10 : 0.1;
      most_ = 10 * least_;
    }
  }

  double x(double value) const { return std::log(value / least_) / std::log(most_ / least_); }
  double y(double value) const {
    const double part = (value - plot_.lowest) / (plot_.highest - plot_.lowest);
    return std::isfinite(part) ? std::clamp(part, 0.0, 1.0) : 1;
  }
  bool has(double x) const { return x >= least_ && x <= most_; }

  /// The powers of ten on the x axis, at most `count`.
  std::vector<double> powers(int count) const {
    const int first = static_cast<int>(std::ceil(std::log10(least_) - 1e-9));
    const int last = static_cast<int>(std::floor(std::log10(most_) + 1e-9));
    const int step = std::max(1, (last - first) / std::max(1, count - 1) +
                                     ((last - first) % std::max(1, count - 1) > 0 ? 1 : 0));
    std::vector<double> powers;
    for (int power = first; power <= last; power += step) powers.push_back(std::pow(10, power));
    return powers;
  }

 private:
  const Plot& plot_;
  double least_ = std::numeric_limits<double>::infinity(), most_ = 0;
};

class Drawing {
 public:
  explicit Drawing(const Plot& plot) : plot_(plot), scale_(plot) {}

  std::string svg() {
    out_ = fmt::format(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\" font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"13\" "
        "fill=\"#1f2937\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        kWidth, kHeight);
    text(kLeft, 30, plot_.title, "font-size=\"17\" font-weight=\"600\"");
    axes();
    for (const bool thin : {true, false}) lines(thin);
    marks();
    return out_ + "</svg>\n";
  }

 private:
  double x(double value) const { return kLeft + scale_.x(value) * (kWidth - kLeft - kRight); }
  double y(double value) const {
    return kHeight - kBottom - scale_.y(value) * (kHeight - kTop - kBottom);
  }

  void text(double x, double y, std::string_view what, std::string_view style) {
    out_ +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, escaped(what));
  }
  void segment(double x1, double y1, double x2, double y2, std::string_view style) {
    out_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1,
                        y1, x2, y2, style);
  }

  void axes() {
    const double bottom = kHeight - kBottom, right = kWidth - kRight;
    for (const double power : scale_.powers(12)) {
      segment(x(power), bottom, x(power), kTop, "stroke=\"#e5e7eb\"");
      text(x(power), bottom + 20, fmt::format("{:g}", power), "text-anchor=\"middle\"");
    }
    constexpr int kParts = 4;
    for (int i = 0; i <= kParts; ++i) {
      const double value = plot_.lowest + (plot_.highest - plot_.lowest) * i / kParts;
      segment(kLeft, y(value), right, y(value), "stroke=\"#e5e7eb\"");
      text(kLeft - 8, y(value) + 4.5, fmt::format("{:.4g}", value), "text-anchor=\"end\"");
    }
    segment(kLeft, bottom, right, bottom, "stroke=\"#6b7280\"");
    segment(kLeft, bottom, kLeft, kTop, "stroke=\"#6b7280\"");
    text((kLeft + right) / 2, kHeight - 18, plot_.x_name, "text-anchor=\"middle\"");
    const double middle = (bottom + kTop) / 2;
    text(20, middle, plot_.y_name,
         fmt::format("text-anchor=\"middle\" transform=\"rotate(-90 20 {:.1f})\"", middle));
  }

  void lines(bool thin) {
    std::size_t number = 0;
    for (const Plot::Line& line : plot_.lines) {
      if (line.is_thin != thin) continue;
      std::string points;
      for (const Plot::Point& point : line.points) {
        points += fmt::format("{:.1f},{:.1f} ", x(point.x), y(point.y));
      }
      out_ += fmt::format(
          "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" "
          "stroke-linejoin=\"round\"><title>{}</title></polyline>\n",
          points, thin ? kThinColor : kColors[number++ % kColors.size()], thin ? 1.2 : 2.5,
          escaped(line.name));
    }
  }

  // Their names stand in two rows, so that neighbors do not overlap.
  void marks() {
    int row = 0;
    for (const Plot::Mark& mark : plot_.marks) {
      if (!scale_.has(mark.x)) continue;
      segment(
          x(mark.x), kHeight - kBottom, x(mark.x), kTop,
          fmt::format("stroke=\"{}\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"", kMarkColor));
      const bool is_left = scale_.x(mark.x) > 0.5;
      text(x(mark.x) + (is_left ? -5 : 5), kTop - 8 - 15 * (row++ % 2), mark.name,
           fmt::format("fill=\"{}\" text-anchor=\"{}\"", kMarkColor, is_left ? "end" : "start"));
    }
  }

  const Plot& plot_;
  Scale scale_;
  std::string out_;
};

/// Lines of characters on which a plot is drawn.
class Canvas {
 public:
  Canvas(const Plot& plot, int columns, int rows)
      : scale_(plot),
        rows_(static_cast<std::size_t>(rows), std::string(static_cast<std::size_t>(columns), ' ')) {
    for (const Plot::Mark& mark : plot.marks) {
      if (!scale_.has(mark.x)) continue;
      for (std::string& row : rows_) row[column(mark.x)] = '|';
    }
    for (const bool thin : {true, false}) {
      for (const Plot::Line& line : plot.lines) {
        if (line.is_thin == thin) draw(line);
      }
    }
  }

  const std::string& row(std::size_t i) const { return rows_[i]; }
  std::size_t column(double x) const { return place(scale_.x(x), rows_.front().size()); }

 private:
  static std::size_t place(double part, std::size_t count) {
    return static_cast<std::size_t>(std::lround(part * static_cast<double>(count - 1)));
  }

  void draw(const Plot::Line& line) {
    for (const Plot::Point& point : line.points) {
      const std::size_t row = rows_.size() - 1 - place(scale_.y(point.y), rows_.size());
      rows_[row][column(point.x)] = line.is_thin ? '.' : '*';
    }
  }

  Scale scale_;
  std::vector<std::string> rows_;
};

std::string without_blanks_at_end(std::string line) {
  line.resize(line.find_last_not_of(' ') + 1);
  return line;
}

// One entry for each character.
std::string legend_of(const Plot& plot) {
  std::string text = fmt::format("{} over {}", plot.y_name, plot.x_name);
  for (const bool thin : {false, true}) {
    const auto line = std::ranges::find(plot.lines, thin, &Plot::Line::is_thin);
    if (line != plot.lines.end()) text += fmt::format("   {} {}", thin ? '.' : '*', line->name);
  }
  for (const Plot::Mark& mark : plot.marks) text += "   | " + mark.name;
  return text;
}

}  // namespace

std::string svg_of(const Plot& plot) {
  return Drawing(plot).svg();
}

std::string text_of(const Plot& plot, int columns, int rows) {
  constexpr int kFewest = 16;
  rows = std::max(rows, 3);
  const std::string high = fmt::format("{:.4g}", plot.highest);
  const std::string low = fmt::format("{:.4g}", plot.lowest);
  const std::size_t label = std::max(high.size(), low.size());
  const int width = std::max(kFewest, columns - static_cast<int>(label) - 2);
  const Canvas canvas(plot, width, rows);
  std::string out;
  for (int i = 0; i < rows; ++i) {
    const std::string name = i == 0 ? high : i == rows - 1 ? low : "";
    out += fmt::format("{:>{}} |{}", name, label, canvas.row(static_cast<std::size_t>(i)));
    out = without_blanks_at_end(std::move(out)) + '\n';
  }
  const std::string margin(label + 2, ' ');
  out += fmt::format("{:{}} +{}\n", "", label, std::string(static_cast<std::size_t>(width), '-'));
  std::string powers(static_cast<std::size_t>(width), ' ');
  std::size_t free = 0;
  for (const double power : Scale(plot).powers(width / 8)) {
    const std::string name = fmt::format("{:g}", power);
    const std::size_t at = std::min(canvas.column(power), powers.size() - name.size());
    if (at < free) continue;
    powers.replace(at, name.size(), name);
    free = at + name.size() + 1;
  }
  out += without_blanks_at_end(margin + powers) + '\n';
  return out + margin + legend_of(plot) + '\n';
}

}  // namespace trireme
