#include <algorithm>
#include <filesystem>
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

// Where the images are: in the sources from which this program was built, into which `make run`
// downloads them, wherever the command is called; in the sources around the folder where it is
// called, for a program that was installed; or in Debian's package. Empty: nowhere.
fs::path fashion_mnist_folder() {
  std::error_code error;
  for (fs::path folder :
       {fs::read_symlink("/proc/self/exe", error), fs::current_path(error) / "."}) {
    while (folder.has_relative_path()) {
      folder = folder.parent_path();
      const fs::path fetched = folder / ".cache/data/fashion-mnist";
      if (holds_fashion_mnist(fetched)) return fetched;
    }
  }
  return holds_fashion_mnist(kPackaged) ? kPackaged : "";
}

}  // namespace

void add_init(CLI::App& app, int& exit_code) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("init", "Write a commented configuration to stdout");
  command->add_option("model", *name, "linear, mlp or cnn")->required();
  command->footer("    trireme init cnn > run.toml && trireme train run.toml");
  command->callback([name, &exit_code] {
    const fs::path folder = fashion_mnist_folder();
    std::cout << configuration_template(*name, folder.empty() ? kPackaged : folder.string());
    if (folder.empty() && *name != "linear") {
      std::cerr << "trireme: the images of Fashion-MNIST are not on this machine: apt-get install "
                   "dataset-fashion-mnist, or make run in trireme's sources\n";
    }
    exit_code = 0;
  });
}

}  // namespace trireme::cli
