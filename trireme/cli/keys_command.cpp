#include <fmt/format.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "trireme/cli/commands.h"
#include "trireme/train/config.h"

namespace trireme::cli {

namespace {

void print_keys(bool json) {
  if (!json) {
    for (const KeyDescription& key : config_keys()) {
      std::cout << fmt::format("{} = {}  ({})\n", key.name, key.default_value, key.type);
      if (!key.meaning.empty()) std::cout << fmt::format("    {}\n", key.meaning);
    }
    return;
  }
  auto list = nlohmann::ordered_json::array();
  for (const KeyDescription& key : config_keys()) {
    list.push_back({{"name", key.name},
                    {"type", key.type},
                    {"default", key.default_value},
                    {"meaning", key.meaning}});
  }
  std::cout << list.dump(2) << '\n';
}

}  // namespace

void add_keys(CLI::App& app, int& exit_code) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("keys", "List every key of a configuration file");
  command->add_flag("--json", *json, "as JSON");
  command->callback([json, &exit_code] {
    print_keys(*json);
    exit_code = 0;
  });
}

}  // namespace trireme::cli
