#pragma once

#include <exception>

#include "trireme/comm/operation.h"

namespace trireme::message {

/// Moves the data of a Group's collectives in another way than from rank to rank. Every rank of the
/// group has one, and all make the same decisions.
class DataMover {
 public:
  virtual ~DataMover() = default;

  /// Moves the data of `operation`, which all ranks have called alike, and returns true; or returns
  /// false if this operation moves from rank to rank. Called by worker thread `worker`, from 0 to
  /// Channel::kWorkers - 1. Throws CommError in ranks of the transport.
  virtual bool move(const Operation& operation, int worker) = 0;

  /// The communicator has ended, so move() must return soon. May be called from any thread.
  virtual void abort(const std::exception_ptr& error) = 0;
};

}  // namespace trireme::message
