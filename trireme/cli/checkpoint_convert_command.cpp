#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "trireme/checkpoint/convert.h"
#include "trireme/cli/checkpoint_command.h"
#include "trireme/train/run_lock.h"

namespace trireme::cli {

namespace {

namespace fs = std::filesystem;

// Null if `to` is no checkpoint of a run, which alone may write to its checkpoints while it lasts.
std::unique_ptr<RunLock> lock_run_of(const fs::path& to) {
  const fs::path target = fs::absolute(to.has_filename() ? to : to.parent_path());
  const RunDirectory run{target.parent_path().parent_path()};
  const bool is_of_run = target.parent_path() == run.checkpoints() && fs::exists(run.config());
  return is_of_run ? std::make_unique<RunLock>(run) : nullptr;
}

}  // namespace

void add_checkpoint_convert(CLI::App& checkpoint, int& exit_code) {
  struct Arguments {
    std::string from, to;
    ConvertOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = checkpoint.add_subcommand(
      "convert", "Write a checkpoint as a model, or a checkpoint or model in other files");
  command->add_option("FROM", arguments->from, kCheckpointPath)->required();
  command->add_option("TO", arguments->to, "NAME.safetensors (a model), or a folder step-N")
      ->required();
  command->add_option("--files", arguments->options.files, "of a checkpoint: number of files")
      ->capture_default_str();
  command->add_option("--file-bytes", arguments->options.file_bytes,
                      "of a model: the most bytes of tensors in one file; 0: one file, however "
                      "large; otherwise parts and an index, as Hugging Face has them");
  command->add_flag("--overwrite", arguments->options.overwrite, "replace what is there");
  command->footer(
      "    trireme checkpoint convert out weights.safetensors\n"
      "    trireme checkpoint convert out elsewhere/checkpoints/step-300 --files 4");
  command->callback([arguments, &exit_code] {
    const std::unique_ptr<RunLock> lock = lock_run_of(arguments->to);
    convert_checkpoint(arguments->from, arguments->to, arguments->options);
    const StoredTensors written(arguments->to);
    std::cout << fmt::format("wrote {}\n", title_of(written));
    exit_code = 0;
  });
}

}  // namespace trireme::cli
