// The documents name keys that exist.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "tests/cli/program.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

using Names = std::set<std::string>;

Names known_keys() {
  const TemporaryFolder folder;
  const Ended listed = run_program(folder.path(), {"keys", "--json"});
  Names keys;
  for (const auto& key : nlohmann::json::parse(listed.out)) keys.insert(key["name"]);
  return keys;
}

Names sections_of(const Names& keys) {
  Names sections;
  for (const std::string& key : keys) sections.insert(key.substr(0, key.find('.')));
  return sections;
}

// Of the blocks between ```toml and ```.
Names keys_in_toml(const std::string& document) {
  static const std::regex kSection(R"(\[(\w+)\].*)"), kList(R"(\[\[(\w+\.\w+)\]\].*)"),
      kKey(R"((\w+)\s*=.*)");
  std::istringstream in(document);
  std::string section;
  bool inside = false;
  Names keys;
  for (std::string line; std::getline(in, line);) {
    std::smatch match;
    if (line.starts_with("```")) {
      inside = line == "```toml";
    } else if (inside && std::regex_match(line, match, kSection)) {
      section = match[1];
    } else if (inside && std::regex_match(line, match, kList)) {
      section = match[1].str() + "[]";
    } else if (inside && std::regex_match(line, match, kKey)) {
      keys.insert(section + "." + match[1].str());
    }
  }
  return keys;
}

// `section.key`, `section.key = ...` and section.key=value of a command, file names apart.
Names keys_in_text(const std::string& document, const Names& sections) {
  static const std::regex kName(R"(([a-z_]+)\.([a-z_]+)( = [^`]*`|=|`))");
  static const Names kEndings = {"safetensors", "jsonl", "json", "pt", "toml", "md", "h", "cpp"};
  Names keys;
  for (std::sregex_iterator at(document.begin(), document.end(), kName), end; at != end; ++at) {
    const std::string section = (*at)[1], key = (*at)[2];
    if (sections.contains(section) && !kEndings.contains(key)) keys.insert(section + "." + key);
  }
  return keys;
}

// For users; those of docs/format/ name tensors instead.
std::vector<std::filesystem::path> documents() {
  const std::filesystem::path sources = TRIREME_SOURCES;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(sources / "docs")) {
    if (entry.path().extension() == ".md") paths.push_back(entry.path());
  }
  if (std::filesystem::exists(sources / "README.md")) paths.push_back(sources / "README.md");
  return paths;
}

TEST(Documents, NameKeysThatExist) {
  const Names known = known_keys();
  ASSERT_GT(known.size(), 60u);
  Names named;
  for (const std::filesystem::path& path : documents()) {
    const std::string document = read_file(path);
    Names here = keys_in_toml(document);
    here.merge(keys_in_text(document, sections_of(known)));
    Names unknown;
    std::ranges::set_difference(here, known, std::inserter(unknown, unknown.end()));
    EXPECT_THAT(unknown, IsEmpty()) << path;
    named.merge(here);
  }
  EXPECT_GT(named.size(), 30u);
}

TEST(Documents, ConfigurationListsEverySection) {
  const auto path = std::filesystem::path(TRIREME_SOURCES) / "docs/configuration.md";
  const std::string document = read_file(path);
  for (const std::string& section : sections_of(known_keys())) {
    EXPECT_THAT(document, HasSubstr("\n| `[" + section + "]` |"));
  }
}

}  // namespace
}  // namespace trireme::test
