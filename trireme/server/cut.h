#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::server {

/// How far a server has come: which pushes it has applied. Of two servers at the same place each
/// holds its part of the same model.
struct Place {
  struct Worker {
    std::uint64_t life = 0;
    std::uint64_t sequence = 0;  ///< of its last push; a push has the same one on all servers
  };
  std::int64_t version = 0;     ///< in synchronous training, which needs nothing else
  std::vector<Worker> workers;  ///< otherwise
};

std::string to_json(const Place& place);
/// Throws DataError unless to_json() wrote it.
Place parse_place(std::string_view json);

/// Whether all pushes of `target` are in.
bool is_reached(const Place& target, const Place& place);

/// The first place that all of these will come to: each push that one of them has applied is on
/// its way to the others. Throws CommError if a worker has just been replaced on some of them only.
Place meeting_place(const std::vector<Place>& places);

}  // namespace trireme::server
