#include "trireme/bench/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "trireme/bench/sizes.h"

namespace trireme::bench {

namespace {

// Of the document, in its own units.
constexpr double kWidth = 880, kHeight = 540;
constexpr double kLeft = 84, kRight = 190, kTop = 84, kBottom = 64;
// Between the names of two lines that end close to each other.
constexpr double kNameHeight = 17;

// Colors that color-blind readers can distinguish too (Okabe and Ito 2008).
constexpr std::array<std::string_view, 5> kColors = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                     "#e69f00"};
constexpr std::string_view kLimitColor = "#6b7280";

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20) safe += c;
    }
  }
  return safe;
}

/// Values between `low` and `high`, powers of `base`, laid on [from, to] by their logarithm.
struct Axis {
  double low, high, from, to;

  double at(double value) const {
    return from + (to - from) * std::log(value / low) / std::log(high / low);
  }
};

double power_below(double value, double base) {
  return std::pow(base, std::floor(std::log(value) / std::log(base) + 1e-9));
}
double power_above(double value, double base) {
  return std::pow(base, std::ceil(std::log(value) / std::log(base) - 1e-9));
}

// "1 µs", "10 ms": of a power of ten.
std::string time_name(double seconds) {
  const auto exponent = static_cast<int>(std::lround(std::log10(seconds)));
  const int thousands = static_cast<int>(std::floor(exponent / 3.0));
  static constexpr std::array<const char*, 5> kUnits = {"ps", "ns", "µs", "ms", "s"};
  const int unit = std::clamp(thousands + 4, 0, 4);
  return fmt::format("{:.0f} {}", std::pow(10, exponent - 3 * (unit - 4)), kUnits[unit]);
}

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart) {
    double least = 1e300, most = 0, fastest = 1e300, slowest = 0;
    for (const Chart::Line& line : chart.lines) {
      for (const auto& [bytes, seconds] : line.points) {
        least = std::min(least, bytes);
        most = std::max(most, bytes);
        fastest = std::min(fastest, seconds);
        slowest = std::max(slowest, seconds);
      }
    }
    if (most == 0) least = most = fastest = slowest = 1;
    if (least == most) {
      least /= 2;
      most *= 2;
    }
    x_ = {least, most, kLeft, kWidth - kRight};
    y_ = {power_below(fastest, 10), power_above(slowest, 10), kHeight - kBottom, kTop};
    if (y_.low == y_.high) y_.high *= 10;
  }

  std::string svg() {
    out_ = fmt::format(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\" font-family=\"system-ui, 'Helvetica Neue', Arial, 'DejaVu Sans', "
        "sans-serif\" font-size=\"13\" fill=\"#1f2937\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        kWidth, kHeight);
    text(kLeft, 34, chart_.title, "font-size=\"18\" font-weight=\"600\"");
    text(kLeft, 56, chart_.subtitle, "fill=\"#6b7280\"");
    grid();
    lines();
    names();
    return out_ + "</svg>\n";
  }

 private:
  void text(double x, double y, std::string_view what, std::string_view style) {
    out_ +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, escaped(what));
  }
  void segment(double x1, double y1, double x2, double y2, std::string_view color) {
    out_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1,
        x2, y2, color);
  }

  void grid() {
    for (double seconds = y_.low; seconds <= y_.high * 1.001; seconds *= 10) {
      const double y = y_.at(seconds);
      segment(x_.from, y, x_.to, y, "#d1d5db");
      text(x_.from - 10, y + 4.5, time_name(seconds), "text-anchor=\"end\"");
      if (seconds * 2 > y_.high) break;
      for (int digit = 2; digit < 10; ++digit) {
        segment(x_.from, y_.at(digit * seconds), x_.to, y_.at(digit * seconds), "#f3f4f6");
      }
    }
    // Their distance keeps their names apart.
    const double octaves = std::log2(x_.high / x_.low);
    const double step = std::exp2(std::max(1.0, std::ceil(octaves / 8)));
    for (double bytes = power_above(x_.low, 2); bytes <= x_.high * 1.001; bytes *= step) {
      segment(x_.at(bytes), y_.from, x_.at(bytes), y_.to, "#e5e7eb");
      text(x_.at(bytes), y_.from + 20, short_size(std::llround(bytes)), "text-anchor=\"middle\"");
    }
    segment(x_.from, y_.from, x_.to, y_.from, "#6b7280");
    segment(x_.from, y_.from, x_.from, y_.to, "#6b7280");
    text((x_.from + x_.to) / 2, kHeight - 18, "size (bytes)", "text-anchor=\"middle\"");
    const double middle = (y_.from + y_.to) / 2;
    text(22, middle, "time of a call",
         fmt::format("text-anchor=\"middle\" transform=\"rotate(-90 22 {:.1f})\"", middle));
  }

  std::string_view color_of(std::size_t line) const {
    if (chart_.lines[line].is_limit) return kLimitColor;
    std::size_t before = 0;
    for (std::size_t i = 0; i < line; ++i) before += chart_.lines[i].is_limit ? 0 : 1;
    return kColors[before % kColors.size()];
  }

  void lines() {
    // The first on top.
    for (std::size_t i = chart_.lines.size(); i-- > 0;) {
      const Chart::Line& line = chart_.lines[i];
      std::string points;
      for (const auto& [bytes, seconds] : line.points) {
        points += fmt::format("{:.1f},{:.1f} ", x_.at(bytes), y_.at(seconds));
      }
      out_ += fmt::format(
          "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" "
          "stroke-linejoin=\"round\"{}/>\n",
          points, color_of(i), i == 0 ? 3 : 2, line.is_limit ? " stroke-dasharray=\"6 5\"" : "");
      if (line.is_limit) continue;
      for (const auto& [bytes, seconds] : line.points) {
        out_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\"/>\n",
                            x_.at(bytes), y_.at(seconds), i == 0 ? 4 : 3, color_of(i));
      }
    }
  }

  // Each name is at the end of its line, moved if two would overlap.
  void names() {
    std::vector<std::pair<double, std::size_t>> places;
    for (std::size_t i = 0; i < chart_.lines.size(); ++i) {
      if (chart_.lines[i].points.empty()) continue;
      places.emplace_back(y_.at(chart_.lines[i].points.back().seconds), i);
    }
    std::ranges::sort(places);
    double free = kTop - kNameHeight;
    for (auto& [y, line] : places) {
      y = std::max(y, free + kNameHeight);
      free = y;
      text(x_.to + 12, y + 4.5, chart_.lines[line].name,
           fmt::format("fill=\"{}\" font-weight=\"{}\"", color_of(line), line == 0 ? 700 : 500));
    }
  }

  const Chart& chart_;
  Axis x_{}, y_{};
  std::string out_;
};

}  // namespace

std::string svg_of(const Chart& chart) {
  return Drawing(chart).svg();
}

}  // namespace trireme::bench
