#include "tests/examples/example_folder.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace trireme::test {

ExampleFolder::ExampleFolder() {
  const std::filesystem::path sources = TRIREME_SOURCES;
  std::filesystem::create_directory_symlink(sources / "examples", folder_ / "examples");
  std::filesystem::create_directory_symlink(sources / ".cache", folder_ / ".cache");
}

Ended ExampleFolder::trireme(const std::vector<std::string>& arguments) const {
  Ended ended = run_program(folder_.path(), arguments);
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  return ended;
}

Ended ExampleFolder::train(const std::string& name, int ranks,
                           std::vector<std::string> overrides) const {
  std::vector<std::string> words = {"train", "examples/" + name + ".toml", "-n",
                                    std::to_string(ranks)};
  words.insert(words.end(), overrides.begin(), overrides.end());
  return trireme(words);
}

std::string example_program(const std::string& name) {
  return (std::filesystem::path(TRIREME_EXAMPLE_PROGRAMS) / name).string();
}

std::vector<double> metric(const std::filesystem::path& run, const std::string& pointer) {
  const nlohmann::json::json_pointer place(pointer);
  std::ifstream in(run / "metrics.jsonl");
  std::vector<double> values;
  for (std::string line; std::getline(in, line);) {
    const auto object = nlohmann::json::parse(line);
    if (object.contains(place)) values.push_back(object.at(place).get<double>());
  }
  return values;
}

}  // namespace trireme::test
