#pragma once

#include <span>
#include <string>
#include <vector>

#include "trireme/bench/measure.h"
#include "trireme/launch/machine.h"

namespace trireme::bench {

/// A peer that could not be measured.
struct LeftOut {
  std::string peer;
  std::string reason;
};

/// The place and time of a measurement.
struct Session {
  int ranks = 1;
  std::string backend;  ///< Communicator::description()
  std::string date;     ///< "2026-11-23T14:05:00Z"
  Machine machine;
  std::vector<LeftOut> left_out;
};

/// Lines that begin with '#' and name session, columns and units, then a line a row, as nccl-tests
/// print them.
std::string table_head(const Session& session, const Plan& plan, std::span<const PeerKind> peers);
std::string table_line(const Plan& plan, const Row& row);

/// Returns all rows as one JSON object.
std::string json_of(const Session& session, const Plan& plan, std::span<const Row> rows);

/// Time over size, a line for each contender, as an SVG file.
std::string svg_of(const Session& session, const Plan& plan, std::span<const Row> rows);

/// The time now, in UTC.
std::string date_now();

}  // namespace trireme::bench
