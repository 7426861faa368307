#include "trireme/bench/report.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "trireme/base/version.h"
#include "trireme/bench/chart.h"

namespace trireme::bench {

namespace {

std::string_view redop_of(const Plan& plan) {
  return reduces(plan.collective) ? "sum" : "none";
}

std::string title_of(const Session& session, const Plan& plan) {
  return fmt::format("{}: {} rank{} over {}, {}", name_of(plan.collective), session.ranks,
                     session.ranks == 1 ? "" : "s", session.backend, trireme::name_of(plan.dtype));
}

// A time in microseconds or a bandwidth: three figures and never an exponent.
std::string figure(double value) {
  if (value >= 100) return fmt::format("{:.0f}", value);
  return fmt::format("{:.{}f}", value, value >= 10 ? 1 : value >= 0.1 || value == 0 ? 2 : 3);
}

constexpr const char* kCommon = "{:>11} {:>11} {:>6} {:>6} {:>10} {:>8} {:>8} {:>7}";
constexpr const char* kPair = " {:>10} {:>8}";

nlohmann::ordered_json json_of(const Timing& timing) {
  return {{"name", timing.name},
          {"time_us", 1e6 * timing.seconds},
          {"lower_quartile_us", 1e6 * timing.lower_quartile},
          {"upper_quartile_us", 1e6 * timing.upper_quartile},
          {"batches", timing.batches},
          {"calls_per_batch", timing.calls}};
}

const Timing& copy_of(const Plan& plan, const Row& row) {
  return row.timings[plan.places.size()];
}

nlohmann::ordered_json json_of(const Plan& plan, const Row& row) {
  nlohmann::ordered_json json = {{"size", row.shape.bytes},
                                 {"count", row.shape.count},
                                 {"type", trireme::name_of(plan.dtype)},
                                 {"redop", redop_of(plan)},
                                 {"time_us", 1e6 * row.ours().seconds},
                                 {"algbw", row.algorithm_bandwidth},
                                 {"busbw", row.bus_bandwidth},
                                 {"wrong", row.wrong},
                                 {"copy_us", 1e6 * copy_of(plan, row).seconds},
                                 {"of_copy", row.ours().seconds / copy_of(plan, row).seconds}};
  json["contenders"] = nlohmann::ordered_json::array();
  for (const Timing& timing : row.timings) {
    json["contenders"].push_back(json_of(timing));
    json["contenders"].back()["over_ours"] = timing.seconds / row.ours().seconds;
  }
  return json;
}

}  // namespace

std::string table_head(const Session& session, const Plan& plan, std::span<const PeerKind> peers) {
  std::string names = fmt::format(fmt::runtime(kCommon), "size", "count", "type", "redop", "time",
                                  "algbw", "busbw", "#wrong");
  std::string units = fmt::format(fmt::runtime(kCommon), "(B)", "(elements)", "", "", "(us)",
                                  "(GB/s)", "(GB/s)", "");
  const auto pair = [&](const std::string& name, const std::string& ratio) {
    names += fmt::format(fmt::runtime(kPair), name, ratio);
    units += fmt::format(fmt::runtime(kPair), "(us)", "");
  };
  pair("copy", "of copy");
  for (std::size_t i = 1; i < plan.places.size(); ++i) {
    pair(std::string(name_of(plan.places[i])), "of copy");
  }
  for (const PeerKind peer : peers) pair(std::string(name_of(peer)), "/ ours");
  units.erase(units.find_last_not_of(' ') + 1);
  return fmt::format("# trireme {} bench {}, {} memory; {}; {}\n#\n#{}\n#{}\n", version(),
                     title_of(session, plan), name_of(plan.places.front()),
                     session.machine.cpu_model, session.date, names, units);
}

std::string table_line(const Plan& plan, const Row& row) {
  const double copy = copy_of(plan, row).seconds;
  std::string line =
      " " + fmt::format(fmt::runtime(kCommon), row.shape.bytes, row.shape.count,
                        trireme::name_of(plan.dtype), redop_of(plan),
                        figure(1e6 * row.ours().seconds), figure(row.algorithm_bandwidth),
                        figure(row.bus_bandwidth), row.wrong);
  const auto pair = [&](double seconds, double ratio) {
    line += fmt::format(fmt::runtime(kPair), figure(1e6 * seconds), figure(ratio));
  };
  pair(copy, row.ours().seconds / copy);
  for (std::size_t i = 1; i < row.timings.size(); ++i) {
    const double seconds = row.timings[i].seconds;
    if (i < plan.places.size()) pair(seconds, seconds / copy);
    if (i > plan.places.size()) pair(seconds, seconds / row.ours().seconds);
  }
  return line + "\n";
}

std::string json_of(const Session& session, const Plan& plan, std::span<const Row> rows) {
  const Machine& machine = session.machine;
  nlohmann::ordered_json json = {{"program", "trireme"},
                                 {"version", version()},
                                 {"date", session.date},
                                 {"machine",
                                  {{"processor", machine.cpu_model},
                                   {"cores", machine.cores},
                                   {"usable_cores", machine.usable},
                                   {"hardware_threads", machine.hardware_threads},
                                   {"memory_bytes", machine.memory_bytes}}},
                                 {"operation", name_of(plan.collective)},
                                 {"ranks", session.ranks},
                                 {"backend", session.backend},
                                 {"memory", name_of(plan.places.front())},
                                 {"seconds_per_size", plan.seconds},
                                 {"bus_factor", bus_factor(plan.collective, session.ranks)}};
  json["left_out"] = nlohmann::ordered_json::array();
  for (const LeftOut& one : session.left_out) {
    json["left_out"].push_back({{"name", one.peer}, {"reason", one.reason}});
  }
  json["rows"] = nlohmann::ordered_json::array();
  for (const Row& row : rows) json["rows"].push_back(json_of(plan, row));
  return json.dump(2) + "\n";
}

std::string svg_of(const Session& session, const Plan& plan, std::span<const Row> rows) {
  Chart chart{.title = title_of(session, plan),
              .subtitle = fmt::format("time of a call on the slowest rank, median; {}; {}",
                                      session.machine.cpu_model, session.date.substr(0, 10))};
  for (std::size_t i = 0; !rows.empty() && i < rows.front().timings.size(); ++i) {
    std::string name = rows.front().timings[i].name;
    if (i < plan.places.size()) {
      name =
          "trireme" +
          (plan.places.size() > 1 || plan.places.front() != Place::kAllocated ? ", " + name : "");
    } else if (i == plan.places.size()) {
      name = "concurrent memcpy";
    }
    Chart::Line line{.name = name, .is_limit = i == plan.places.size()};
    for (const Row& row : rows) {
      line.points.push_back({static_cast<double>(row.shape.bytes), row.timings[i].seconds});
    }
    chart.lines.push_back(std::move(line));
  }
  return svg_of(chart);
}

std::string date_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace trireme::bench
