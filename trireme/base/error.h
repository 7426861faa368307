#pragma once

#include <stdexcept>
#include <string>

namespace trireme {

/// What trireme throws. Every message says who, what was wanted, what came and what to do:
/// `reduce_scatter: in must hold 4096 elements, got 4095 (rank 2 of 4)`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The call or the configuration must be fixed.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// A file is missing, torn or not what it says.
class DataError : public Error {
 public:
  using Error::Error;
};

/// Training has left the finite numbers: the loss, a gradient or a value of the model is infinite
/// or not a number.
class DivergedError : public Error {
 public:
  using Error::Error;
};

/// A peer is lost or did not come: this communicator is over.
class CommError : public Error {
 public:
  using Error::Error;
  CommError(const std::string& message, int lost_rank) : Error(message), lost_rank_(lost_rank) {}

  /// The rank at fault in the communicator that threw, or -1 if none can be named.
  int lost_rank() const { return lost_rank_; }

 private:
  int lost_rank_ = -1;
};

}  // namespace trireme
