#pragma once

#include <cstdint>
#include <vector>

namespace trireme::server {

/// The pushes that a server has applied. Two servers with equal version vectors hold their parts of
/// the same model.
struct VersionVector {
  struct Worker {
    std::uint64_t incarnation = 0;  ///< public_number() of it
    std::uint64_t sequence = 0;     ///< of its last push; a push has the same number on all servers
    bool operator==(const Worker&) const = default;
  };
  std::int64_t version = 0;     ///< synchronous training: the updates made; no workers are listed
  std::vector<Worker> workers;  ///< other modes: the last push of each worker
  bool operator==(const VersionVector&) const = default;
};

/// A number that tells incarnations apart and that does not show them: a request is taken for a
/// worker's if it has the worker's incarnation, and every client may read version vectors. The same
/// on all servers (BLAKE2b); 0 for 0.
std::uint64_t public_number(std::uint64_t incarnation);

/// True if `progress` contains every push of `target`.
bool has_reached(const VersionVector& progress, const VersionVector& target);

/// The least version vector that contains every push of `all`: each push that one server has
/// applied is on its way to the others, so that all of them reach it. Throws CommError if a worker
/// has been replaced on some of the servers only.
VersionVector frontier_of(const std::vector<VersionVector>& all);

}  // namespace trireme::server
