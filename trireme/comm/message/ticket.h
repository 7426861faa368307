#pragma once

#include <exception>

namespace trireme::message {

/// How an operation that other threads carry out is getting on; guarded by its communicator's
/// mutex.
struct Ticket {
  bool done = false;
  std::exception_ptr error;  ///< of this operation, once done
};

}  // namespace trireme::message
