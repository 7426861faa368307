#include "trireme/comm/hierarchical/host_mover.h"

#include <mutex>
#include <thread>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::hosts {

HostMover::HostMover(message::Channel& channel, Hosts hosts, std::unique_ptr<Communicator> inside)
    : channel_(channel), hosts_(std::move(hosts)), inside_(std::move(inside)), tracks_(kTracks) {
  const std::vector<int>& world_ranks = channel_.world_ranks();
  const int first = hosts_.first_of(hosts_.host());
  for (Track& track : tracks_) {
    track.inside = inside_->split(0);
    track.stage = track.inside->allocate(2 * Track::kHalfBytes);
    for (int local = 0; local < hosts_.ranks_of(hosts_.host()); ++local) {
      track.world_ranks.push_back(world_ranks[first + local]);
    }
  }
  for (int host = 0; hosts_.carries() && host < hosts_.count(); ++host) {
    rail_.push_back(world_ranks[hosts_.first_of(host) + hosts_.local()]);
  }
}

bool HostMover::move(const Operation& operation, int worker) {
  if (!goes_by_hosts(operation)) return false;
  const int first_track = worker * kTracksPerWorker;
  std::mutex mutex;
  std::exception_ptr error;  // the first one: others follow from it
  const auto move_on_track = [&](int index) {
    const int track = first_track + index;
    const message::Exchange rail = channel_.exchange(track, rail_, hosts_.host());
    try {
      move_by_hosts(operation, hosts_, tracks_[track], rail, index, kTracksPerWorker);
    } catch (...) {
      {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
      abort_tracks(first_track, kTracksPerWorker);
    }
  };
  std::thread second(move_on_track, 1);
  move_on_track(0);
  second.join();
  if (error) std::rethrow_exception(error);
  return true;
}

void HostMover::abort(const std::exception_ptr& error) {
  abort_tracks(0, kTracks);
  inside_->abort(error);
}

void HostMover::abort_tracks(int first, int count) {
  // The error names no rank: a track counts only the ranks of its host.
  const auto error = std::make_exception_ptr(CommError("this collective has failed"));
  for (int track = first; track < first + count; ++track) tracks_[track].inside->abort(error);
}

}  // namespace trireme::hosts
