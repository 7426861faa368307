#include "trireme/server/version_vector.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "trireme/base/error.h"

namespace trireme::server {

std::uint64_t public_number(std::uint64_t incarnation) {
  if (incarnation == 0) return 0;
  std::uint64_t number = 0;
  std::array<unsigned char, crypto_generichash_BYTES> digest{};
  std::array<unsigned char, sizeof incarnation> bytes{};
  std::memcpy(bytes.data(), &incarnation, sizeof incarnation);
  crypto_generichash(digest.data(), digest.size(), bytes.data(), bytes.size(), nullptr, 0);
  std::memcpy(&number, digest.data(), sizeof number);
  return number;
}

bool has_reached(const VersionVector& progress, const VersionVector& target) {
  if (progress.version < target.version || progress.workers.size() != target.workers.size()) {
    return false;
  }
  for (std::size_t i = 0; i < target.workers.size(); ++i) {
    const VersionVector::Worker& wanted = target.workers[i];
    const VersionVector::Worker& worker = progress.workers[i];
    if (wanted.sequence == 0) continue;
    if (worker.incarnation != wanted.incarnation || worker.sequence < wanted.sequence) return false;
  }
  return true;
}

VersionVector frontier_of(const std::vector<VersionVector>& all) {
  VersionVector frontier = all.front();
  for (const VersionVector& one : all) {
    if (one.workers.size() != frontier.workers.size()) {
      throw CommError("fetch: the servers have been told of different numbers of workers");
    }
    frontier.version = std::max(frontier.version, one.version);
    for (std::size_t i = 0; i < frontier.workers.size(); ++i) {
      VersionVector::Worker& worker = frontier.workers[i];
      const VersionVector::Worker& other = one.workers[i];
      // Where the worker has not joined yet it cannot have pushed.
      if (worker.incarnation == 0) worker.incarnation = other.incarnation;
      if (other.incarnation != 0 && other.incarnation != worker.incarnation) {
        throw CommError(fmt::format(
            "fetch: worker {} has just rejoined some of the servers and not yet the others; try "
            "again",
            i));
      }
      worker.sequence = std::max(worker.sequence, other.sequence);
    }
  }
  return frontier;
}

}  // namespace trireme::server
