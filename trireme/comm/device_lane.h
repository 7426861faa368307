#pragma once

#include <cstddef>
#include <memory>

#include "trireme/comm/memory.h"
#include "trireme/comm/operation.h"
#include "trireme/comm/traffic.h"
#include "trireme/comm/work.h"

namespace trireme {

class Communicator;

/// Executes the operations of one communicator on device memory. The communicator itself moves no
/// data of devices: it compares the ranks' calls and detects lost ranks.
class DeviceLane {
 public:
  virtual ~DeviceLane() = default;

  /// Throws UsageError unless the operation's data is on the device of this rank.
  virtual void check(const Operation& operation) = 0;

  /// Starts a call on device memory. `matched` is the communicator's comparison of the calls; no
  /// data moves before it is done. For a send it is done once the send is announced.
  virtual Work start(const Operation& operation, Work matched) = 0;

  /// Returns `work`, a call on the memory of the process, so that waiting for it moves this lane on
  /// as well.
  virtual Work watch(const Operation& operation, Work work) = 0;

  /// Does what Communicator::progress() does.
  virtual void progress() = 0;

  /// Returns zeroed memory of this rank's device.
  virtual Memory allocate(std::size_t bytes) = 0;

  virtual Traffic traffic() const = 0;

  /// Returns a lane for `part`, which was split from this lane's communicator.
  virtual std::unique_ptr<DeviceLane> lane_of(Communicator& part) const = 0;

 protected:
  /// Has `communicator` carry a call that its user did not make.
  static Work start_in(Communicator& communicator, const Operation& operation);
};

}  // namespace trireme
