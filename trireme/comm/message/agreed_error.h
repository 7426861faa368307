#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "trireme/comm/message/frame.h"

namespace trireme::message {

/// An error that one rank has found and sends to the others, so that it ends the communicator on
/// all its ranks.
struct AgreedError {
  std::string text;
  int failed_rank = -1;               ///< in the communicator, or -1 if no rank can be named
  std::uint64_t first_operation = 0;  ///< collectives before this one may still succeed

  bool operator==(const AgreedError&) const = default;
};

/// The CommError that calls throw.
std::exception_ptr exception_of(const AgreedError& error);

/// Texts are cut off at the size of a frame.
Frame frame_of(const AgreedError& error);

/// Reads a frame of kind kAgreedError.
AgreedError agreed_error_of(const Frame& frame);

}  // namespace trireme::message
