#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/cli/program.h"

namespace trireme::test {

/// A folder where the commands of the examples work as they are written there, as in a fresh clone:
/// it sees examples/ and .cache/data of the sources, and runs/ is its own.
class ExampleFolder {
 public:
  ExampleFolder();

  /// Runs trireme and fails the test unless it ends well.
  Ended trireme(const std::vector<std::string>& arguments) const;

  /// Trains the configuration file examples/NAME.toml.
  Ended train(const std::string& name, int ranks, std::vector<std::string> overrides = {}) const;

  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
};

/// The program of an example.
std::string example_program(const std::string& name);

/// The values of metrics.jsonl at a JSON pointer, "/loss" or "/evaluation/accuracy", in the order
/// of the lines that have it.
std::vector<double> metric(const std::filesystem::path& run, const std::string& pointer);

}  // namespace trireme::test
