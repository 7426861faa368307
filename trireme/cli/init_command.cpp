#include <filesystem>
#include <iostream>

#include "trireme/cli/commands.h"
#include "trireme/cli/templates.h"

namespace trireme::cli {

namespace {

// The folder to which `make run` downloads the data, or that of the Debian package.
std::string fashion_mnist_folder() {
  const std::filesystem::path fetched = ".cache/data/fashion-mnist";
  std::error_code ignored;
  if (std::filesystem::exists(fetched, ignored)) return fetched.string();
  return "/usr/share/datasets/fashion-mnist";
}

}  // namespace

void add_init(CLI::App& app, int& exit_code) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("init", "Write a commented configuration to stdout");
  command->add_option("model", *name, "linear, mlp or cnn")->required();
  command->footer("    trireme init cnn > run.toml && trireme train run.toml");
  command->callback([name, &exit_code] {
    std::cout << configuration_template(*name, fashion_mnist_folder());
    exit_code = 0;
  });
}

}  // namespace trireme::cli
