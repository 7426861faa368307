#include "trireme/server/cut.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "trireme/base/error.h"

namespace trireme::server {

std::string to_json(const Place& place) {
  nlohmann::json json = {{"version", place.version}, {"workers", nlohmann::json::array()}};
  for (const Place::Worker& worker : place.workers) {
    json["workers"].push_back({worker.life, worker.sequence});
  }
  return json.dump();
}

Place parse_place(std::string_view text) {
  try {
    const auto json = nlohmann::json::parse(text);
    Place place{.version = json.at("version").get<std::int64_t>(), .workers = {}};
    for (const auto& worker : json.at("workers")) {
      place.workers.push_back(
          {worker.at(0).get<std::uint64_t>(), worker.at(1).get<std::uint64_t>()});
    }
    return place;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("fetch: not a place of this version: {}", error.what()));
  }
}

bool is_reached(const Place& target, const Place& place) {
  if (place.version < target.version || place.workers.size() != target.workers.size()) return false;
  for (std::size_t i = 0; i < place.workers.size(); ++i) {
    const Place::Worker& wanted = target.workers[i];
    if (wanted.sequence == 0) continue;
    if (place.workers[i].life != wanted.life || place.workers[i].sequence < wanted.sequence) {
      return false;
    }
  }
  return true;
}

Place meeting_place(const std::vector<Place>& places) {
  Place all = places.front();
  for (const Place& place : places) {
    all.version = std::max(all.version, place.version);
    for (std::size_t i = 0; i < all.workers.size(); ++i) {
      if (place.workers.size() != all.workers.size()) {
        throw CommError("fetch: the servers have been told of different numbers of workers");
      }
      Place::Worker& first = all.workers[i];
      const Place::Worker& other = place.workers[i];
      // One that has not been there before cannot have pushed there.
      if (first.life == 0) first.life = other.life;
      if (other.life != 0 && other.life != first.life) {
        throw CommError(fmt::format(
            "fetch: worker {} has just come back to some of the servers and not yet to the others; "
            "try again",
            i));
      }
      first.sequence = std::max(first.sequence, other.sequence);
    }
  }
  return all;
}

}  // namespace trireme::server
