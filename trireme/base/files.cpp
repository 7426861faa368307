#include "trireme/base/files.h"

#include <fmt/format.h>

#include "trireme/base/atomic_file.h"
#include "trireme/base/error.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

fs::path parent_of(const fs::path& path) {
  const fs::path parent =
      path.has_filename() ? path.parent_path() : path.parent_path().parent_path();
  return parent.empty() ? "." : parent;
}

}  // namespace

void make_directories(const fs::path& path, Files& files) {
  if (path.empty() || files.kind_of(path) == FileKind::kDirectory) return;
  const fs::path parent = parent_of(path);
  if (parent != path) make_directories(parent, files);
  files.make_directory(path);
  files.sync_directory(parent);
}

void require_file(const fs::path& path, Files& files) {
  const FileKind kind = files.kind_of(path);
  if (kind == FileKind::kFile) return;
  throw DataError(fmt::format("{}: must be a file, {}", path.string(),
                              kind == FileKind::kNone        ? "there is none"
                              : kind == FileKind::kDirectory ? "got a directory"
                                                             : "got a FIFO, a socket or a device"));
}

std::string read_file(const fs::path& path, Files& files) {
  const std::unique_ptr<File> file = files.open(path);
  std::string bytes;
  // What has no size, such as files of /proc, is read to its end too.
  for (std::size_t chunk = static_cast<std::size_t>(file->size()) + 1;; chunk = 1 << 16) {
    const std::size_t end = bytes.size();
    bytes.resize(end + chunk);
    const std::size_t n = file->read(static_cast<std::int64_t>(end), {bytes.data() + end, chunk});
    bytes.resize(end + n);
    if (n < chunk) return bytes;
  }
}

void write_file_atomically(const fs::path& path, std::string_view bytes, Files& files) {
  AtomicFile file(path, files);
  file.write(bytes);
  file.commit();
}

}  // namespace trireme
