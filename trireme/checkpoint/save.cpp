#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/agreement.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/chunk_files.h"
#include "trireme/checkpoint/manifest.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/formats/safetensors.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

void check(const StateTensor& tensor) {
  if (tensor.values.count == tensor.region.count()) return;
  throw UsageError(fmt::format(
      "save_checkpoint: tensor \"{}\" must have the {} values of its region of {}, got {}",
      tensor.name, tensor.region.count(), describe(tensor.values.dtype, tensor.region.full_shape()),
      tensor.values.count));
}

void check(const RunState& state, std::span<const StateTensor> tensors,
           const Retention& retention) {
  const auto& [newest, every_steps, best, metric] = retention;
  if (state.step < 0 || newest < 0 || every_steps < 0 || best < 0) {
    throw UsageError(fmt::format(
        "save_checkpoint: the step and the numbers of checkpoints to keep must not be negative, "
        "got step {}, newest {}, every_steps {}, best {}",
        state.step, newest, every_steps, best));
  }
  for (const StateTensor& tensor : tensors) check(tensor);
}

struct Contents {
  Manifest manifest;  ///< of one file
  std::vector<NamedBuffer> tensors;
};

Contents contents_of(const RunState& state, std::span<const StateTensor> tensors,
                     std::string file) {
  Contents contents;
  contents.manifest.state = state;
  for (const StateTensor& tensor : tensors) {
    if (!tensor.is_written) continue;
    Manifest::Tensor& listed =
        entry(contents.manifest, tensor.name, tensor.values.dtype, tensor.region.full_shape());
    if (tensor.region.count() == 0) continue;
    listed.chunks.push_back({0, tensor.region});
    contents.tensors.push_back(
        {stored_name(tensor.name, tensor.region), tensor.region.local_shape(), tensor.values});
  }
  if (!contents.tensors.empty()) contents.manifest.files.push_back({std::move(file), 0, ""});
  return contents;
}

// What this rank's part of the manifest says; nothing is written where there is nothing to write.
std::string write_part(const fs::path& folder, int rank, const RunState& state,
                       std::span<const StateTensor> tensors, Files& files) {
  Contents contents = contents_of(state, tensors, fmt::format("rank-{}.safetensors", rank));
  for (Manifest::File& file : contents.manifest.files) {
    write_safetensors(folder / file.name, contents.tensors, {}, files);
    file = described_file(folder, file.name, files);
  }
  return to_json(contents.manifest);
}

void write_manifest(const fs::path& folder, std::span<const std::string> texts, Files& files) {
  std::vector<Manifest> parts;
  for (const std::string& text : texts) parts.push_back(parse_part(text));
  write_file_atomically(folder / "manifest.json", to_file(merge(parts)), files);
}

void require_same_step(std::span<const std::string> steps) {
  for (std::size_t rank = 1; rank < steps.size(); ++rank) {
    if (steps[rank] == steps[0]) continue;
    throw UsageError(fmt::format("save_checkpoint: rank 0 is at step {}, rank {} at step {}",
                                 steps[0], rank, steps[rank]));
  }
}

}  // namespace

void save_checkpoint(const fs::path& directory, Communicator& world, const RunState& state,
                     std::span<const StateTensor> mine, const Retention& retention, Files& files) {
  require_same_step(agree(world, [&] {
    check(state, mine, retention);
    return fmt::format("{}", state.step);
  }));
  const StepFolder folder(directory, state.step, files);
  const auto on_first_rank = [&](const auto& action) {
    agree(world, [&] {
      if (world.rank() == 0) action();
      return std::string();
    });
  };
  try {
    on_first_rank([&] { folder.begin(); });
    const auto parts = agree(
        world, [&] { return write_part(folder.partial(), world.rank(), state, mine, files); });
    on_first_rank([&] {
      write_manifest(folder.partial(), parts, files);
      folder.publish();
      prune_checkpoints(directory, state.step, retention, files);
    });
  } catch (...) {
    if (world.rank() == 0) folder.abandon();
    throw;
  }
}

}  // namespace trireme
