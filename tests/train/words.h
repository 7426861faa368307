#pragma once

#include <string>
#include <vector>

namespace trireme::test {

// Values of parallelism.strategy.
inline const std::string kReplicated = "replicated";
inline const std::string kHostShared = "host_shared";
inline const std::string kParameterServer = "parameter_server";

/// Overrides of a configuration, each "section.key=value", or words of a command line.
using Words = std::vector<std::string>;

inline Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

inline Words strategy(const std::string& name) {
  return {"parallelism.strategy=" + name};
}

// The forms of local steps, with 8 steps between two synchronizations.

inline Words local_sgd() {
  return {"communication.mode=hybrid", "communication.local_steps=8"};
}

inline Words diloco() {
  return local_sgd() + Words{"communication.hybrid=diloco"};
}

inline Words streaming_diloco() {
  return diloco() + Words{"communication.fragments=3", "communication.delay=2"};
}

inline Words diloco_in_pairs() {
  return diloco() + Words{"communication.group_size=2"};
}

// What goes through servers without ranks waiting for each other.

inline Words asynchronous() {
  return {"communication.mode=asynchronous"};
}

inline Words bounded_staleness() {
  return {"communication.mode=hybrid", "communication.hybrid=bounded_staleness"};
}

inline Words backup_workers() {
  return {"communication.mode=hybrid", "communication.hybrid=backup_workers"};
}

}  // namespace trireme::test
