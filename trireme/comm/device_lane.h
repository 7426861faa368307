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

  /// Starts a collective on device memory. `matched`: the communicator's comparison of the calls;
  /// nothing moves before that is done.
  virtual Work start(const Operation& operation, Work matched) = 0;

  /// A send or recv whose end here lies on a device.
  virtual Work start_message(const Operation& operation) = 0;

  /// As Communicator::progress().
  virtual void progress() = 0;

  /// Zeroed memory of this rank's device.
  virtual Memory allocate(std::size_t bytes) = 0;

  virtual Traffic traffic() const = 0;

  /// One for `part`, which was split from this lane's communicator.
  virtual std::unique_ptr<DeviceLane> lane_of(Communicator& part) const = 0;
};

}  // namespace trireme
