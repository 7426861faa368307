#include "trireme/comm/hierarchical/host_mover.h"

#include <mutex>
#include <thread>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/comm/hierarchical/move_by_hosts.h"

namespace trireme::hosts {

HostMover::HostMover(message::Channel& channel, Hosts hosts, std::unique_ptr<Communicator> inside)
    : channel_(channel), hosts_(std::move(hosts)), inside_(std::move(inside)), areas_(kAreas) {
  const std::vector<int>& world_ranks = channel_.world_ranks();
  const int first = hosts_.first_of(hosts_.host());
  for (StagingArea& area : areas_) {
    area.inside = inside_->split(0);
    area.stages = area.inside->allocate(2 * StagingArea::kHalfBytes);
    for (int local = 0; local < hosts_.ranks_of(hosts_.host()); ++local) {
      area.world_ranks.push_back(world_ranks[first + local]);
    }
  }
  for (int host = 0; hosts_.is_leader() && host < hosts_.count(); ++host) {
    rail_.push_back(world_ranks[hosts_.first_of(host) + hosts_.local()]);
  }
}

bool HostMover::move(const Operation& operation, int worker) {
  if (!moves_by_hosts(operation)) return false;
  const int first_area = worker * kAreasPerWorker;
  std::mutex mutex;
  std::exception_ptr error;  // the first one; it causes the others
  const auto move_part = [&](int index) {
    const int area = first_area + index;
    const message::Exchange rail = channel_.exchange(area, rail_, hosts_.host());
    try {
      move_by_hosts(operation, hosts_, areas_[area], rail, index, kAreasPerWorker);
    } catch (...) {
      {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
      abort_areas(first_area, kAreasPerWorker);
    }
  };
  std::thread second = start_thread("communicator", [&move_part] { move_part(1); });
  move_part(0);
  second.join();
  if (error) std::rethrow_exception(error);
  return true;
}

void HostMover::abort(const std::exception_ptr& error) {
  abort_areas(0, kAreas);
  inside_->abort(error);
}

void HostMover::abort_areas(int first, int count) {
  // The error names no rank: a staging area counts only the ranks of its host.
  const auto error = std::make_exception_ptr(CommError("this collective has failed"));
  for (int area = first; area < first + count; ++area) areas_[area].inside->abort(error);
}

}  // namespace trireme::hosts
