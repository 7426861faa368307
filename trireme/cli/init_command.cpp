#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <system_error>

#include "trireme/cli/commands.h"
#include "trireme/cli/templates.h"

namespace trireme::cli {

namespace {

namespace fs = std::filesystem;

constexpr const char* kPackaged = "/usr/share/datasets/fashion-mnist";

bool holds_fashion_mnist(const fs::path& folder) {
  std::error_code error;
  return std::ranges::all_of(kFashionMnistFiles, [&](const char* name) {
    return fs::is_regular_file(folder / name, error);
  });
}

// Where fetched data that `suits` lies: in the sources from which this program was built, into
// which scripts/fetch-data.sh downloads it, wherever the command is called; or in the sources
// around the folder where it is called, for a program that was installed. Empty: nowhere.
fs::path fetched(const fs::path& name, const std::function<bool(const fs::path&)>& suits) {
  std::error_code error;
  for (fs::path folder :
       {fs::read_symlink("/proc/self/exe", error), fs::current_path(error) / "."}) {
    while (folder.has_relative_path()) {
      folder = folder.parent_path();
      fs::path data = folder / ".cache/data" / name;
      if (suits(data)) return data;
    }
  }
  return "";
}

fs::path fashion_mnist_folder() {
  const fs::path found = fetched("fashion-mnist", holds_fashion_mnist);
  return found.empty() && holds_fashion_mnist(kPackaged) ? kPackaged : found;
}

// The first of the texts that scripts/fetch-data.sh knows.
fs::path text_file() {
  for (const char* name : {"bible/bible.txt", "moby-dick/moby-dick.txt"}) {
    fs::path found = fetched(name, [](const fs::path& path) {
      std::error_code error;
      return fs::is_regular_file(path, error);
    });
    if (!found.empty()) return found;
  }
  return "";
}

}  // namespace

void add_init(CLI::App& app, int& exit_code) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("init", "Write a commented configuration to stdout");
  command->add_option("model", *name, "linear, mlp, cnn or gpt")->required();
  command->footer("    trireme init cnn > run.toml && trireme train run.toml");
  command->callback([name, &exit_code] {
    const fs::path folder = fashion_mnist_folder();
    std::cout << configuration_template(
        *name, {.fashion_mnist = folder.empty() ? kPackaged : folder.string(),
                .text = text_file().string()});
    if (folder.empty() && (*name == "mlp" || *name == "cnn")) {
      std::cerr << "trireme: the images of Fashion-MNIST are not on this machine: apt-get install "
                   "dataset-fashion-mnist, or make run in trireme's sources\n";
    }
    exit_code = 0;
  });
}

}  // namespace trireme::cli
