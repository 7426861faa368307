#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/comm/operation.h"

namespace trireme::test {

/// Ways in which what an operation leaves can be wrong.
enum class Fault {
  kNone,
  kDropped,     ///< what the other ranks give is missing
  kDoubled,     ///< the sum is twice what it should be
  kUnscaled,    ///< the sum is not divided
  kShifted,     ///< the cut is shifted by one element
  kNotWaited,   ///< the result is what was there before
  kFreed,       ///< the memory has been freed and used for something else
  kOfLastStep,  ///< the result is that of the step before
};
std::string name_of(Fault fault);

/// The faults that an operation of a step can have.
std::vector<Fault> faults_of(const Call& call);

/// One rank's side of a world in which some operations go wrong on this rank.
class Faults {
 public:
  /// The operations with this description, from operation `from` of this rank on, have `fault`.
  void plan(std::string operation, Fault fault) {
    operation_ = std::move(operation);
    fault_ = fault;
  }

  /// How often each operation was made, by its description, with its call.
  const std::map<std::string, Call>& seen() const { return seen_; }
  /// Any fault has changed a byte.
  bool has_changed() const { return has_changed_; }

  /// Used by the communicators. `before`: of the output.
  bool is_due(const std::string& operation, const Call& call);
  void spoil(const Operation& operation, const std::string& name, std::string before);

 private:
  std::string operation_;
  Fault fault_ = Fault::kNone;
  std::map<std::string, Call> seen_;
  std::map<std::string, std::vector<std::string>> results_;  // kOfLastStep: of each operation
  bool has_changed_ = false;
};

/// A communicator over `inner`, whose operations are done when they have begun. What is split from
/// it is faulty as well. `faults` and `inner` must outlive it.
std::unique_ptr<Communicator> faulty(Communicator& inner, Faults& faults);

}  // namespace trireme::test
