#pragma once

#include <cstddef>
#include <memory>

#include "trireme/comm/memory.h"
#include "trireme/comm/operation.h"
#include "trireme/comm/traffic.h"
#include "trireme/comm/work.h"

namespace trireme {

class Communicator;

/// Carries what lies in devices' memory between the ranks of one communicator. The communicator
/// itself carries none of it: it compares the ranks' calls, and knows who is lost.
class DeviceLane {
 public:
  virtual ~DeviceLane() = default;

  /// Throws UsageError unless the operation's data lie on the device of this rank.
  virtual void check(const Operation& operation) = 0;

  /// Starts a call on device memory. `matched`: the communicator's comparison of the calls; nothing
  /// moves before that is done. Of a send it is done once the send is announced.
  virtual Work start(const Operation& operation, Work matched) = 0;

  /// `work` is a call on the memory of the process: who waits for it moves this lane on as well.
  virtual Work watch(const Operation& operation, Work work) = 0;

  /// As Communicator::progress().
  virtual void progress() = 0;

  /// Zeroed memory of this rank's device.
  virtual Memory allocate(std::size_t bytes) = 0;

  virtual Traffic traffic() const = 0;

  /// One for `part`, which was split from this lane's communicator.
  virtual std::unique_ptr<DeviceLane> lane_of(Communicator& part) const = 0;

 protected:
  /// Has `communicator` carry a call that its user did not make.
  static Work start_in(Communicator& communicator, const Operation& operation);
};

}  // namespace trireme
