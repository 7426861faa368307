#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "trireme/cli/commands.h"
#include "trireme/config/config.h"
#include "trireme/server/zmq/keys.h"

namespace trireme::cli {

namespace {

void print_keys(bool json) {
  if (!json) {
    for (const KeyDescription& key : config_keys()) {
      const std::string value = key.default_value.empty() ? "" : " = " + key.default_value;
      std::cout << fmt::format("{}{}  ({})\n", key.name, value, key.type);
      std::cout << fmt::format("    {}\n", key.meaning);
      if (!key.used_with.empty()) std::cout << fmt::format("    used with {}\n", key.used_with);
      if (key.may_differ) std::cout << "    may differ between hosts\n";
    }
    return;
  }
  auto list = nlohmann::ordered_json::array();
  for (const KeyDescription& key : config_keys()) {
    list.push_back({{"name", key.name},
                    {"type", key.type},
                    {"default", key.default_value},
                    {"meaning", key.meaning},
                    {"used_with", key.used_with},
                    {"may_differ", key.may_differ}});
  }
  std::cout << list.dump(2) << '\n';
}

CLI::App* add_new(CLI::App& keys) {
  struct Arguments {
    std::string folder;
    std::string name;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = keys.add_subcommand(
      "new", "Make a key pair: NAME.key for everybody, NAME.secret for nobody else (CURVE)");
  command->add_option("DIR", arguments->folder, "folder to write to")->required();
  command->add_option("--name", arguments->name, "of a server or a worker")->required();
  command->callback([arguments] {
    const server::KeyPair pair = server::new_key_pair();
    server::write_key_files(arguments->folder, arguments->name, pair);
    const auto file = std::filesystem::path(arguments->folder) / arguments->name;
    std::cout << fmt::format("{}.secret: keep it where it is used\n{}.key: {}\n", file.string(),
                             file.string(), pair.public_key);
  });
  return command;
}

}  // namespace

void add_keys(CLI::App& app, int& exit_code) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "keys", "List every key of a configuration file; keys new: make keys for trireme serve");
  command->add_flag("--json", *json, "as JSON");
  CLI::App* make = add_new(*command);
  command->callback([json, make, &exit_code] {
    if (!make->parsed()) print_keys(*json);
    exit_code = 0;
  });
}

}  // namespace trireme::cli
