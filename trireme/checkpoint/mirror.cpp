#include "trireme/checkpoint/mirror.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/checkpoint/chunk_files.h"
#include "trireme/checkpoint/step_folder.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kCopiedAtOnce = 1 << 20;

void copy_file(const fs::path& from, const fs::path& to, Files& files) {
  require_file(from, files);
  const std::unique_ptr<File> in = files.open(from);
  const std::unique_ptr<File> out = files.create(to, to);
  std::vector<char> piece(kCopiedAtOnce);
  for (std::int64_t at = 0;;) {
    const std::size_t bytes = in->read(at, piece);
    if (bytes == 0) break;
    out->append(std::string_view(piece.data(), bytes));
    at += static_cast<std::int64_t>(bytes);
  }
  out->sync();
}

// The copy is read back, so that neither a damaged file nor a failing disk is taken for a copy.
void require_whole(const fs::path& folder, const Manifest& manifest, Files& files) {
  ChunkFiles copies(folder, manifest, files);
  for (std::size_t file = 0; file < manifest.files.size(); ++file) copies.verify(file);
}

}  // namespace

void mirror_checkpoint(const fs::path& folder, const fs::path& directory,
                       const Retention& retention, Files& files) {
  const Manifest manifest = read_manifest(folder, files);
  const std::int64_t step = manifest.state.step;
  const StepFolder copy(directory, step, files);
  try {
    copy.begin();
    for (const Manifest::File& file : manifest.files) {
      copy_file(folder / file.name, copy.partial() / file.name, files);
    }
    require_whole(copy.partial(), manifest, files);
    write_file_atomically(copy.partial() / "manifest.json",
                          read_file(folder / "manifest.json", files), files);
    copy.publish();
  } catch (...) {
    copy.abandon();
    throw;
  }
  remove_later_checkpoints(directory, step, files);
  prune_checkpoints(directory, step, retention, files);
}

}  // namespace trireme
