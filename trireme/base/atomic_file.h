#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "trireme/base/files.h"

namespace trireme {

/// A file that appears under its name as a whole or not at all: it is written chunk by chunk under
/// a temporary name in the same directory, then synced and renamed.
///
///     AtomicFile file("model.safetensors");
///     file.write(header);
///     file.write(weights);
///     file.commit();
///
/// Without commit(), the temporary file is removed and `path` keeps what it held before. A `path`
/// that is no file, such as a device, is an error. Every function throws DataError, which names the
/// path and the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path, Files& files = real_files());
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);

  /// Replaces bytes that were written before, from byte `offset` on: a header whose numbers are
  /// known at the end.
  void overwrite(std::int64_t offset, std::string_view bytes);

  /// Syncs the file, renames it and syncs its directory.
  void commit();

 private:
  Files& files_;
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::unique_ptr<File> file_;
};

/// Returns true if an AtomicFile for the file `target` of the same directory, whose process was
/// killed, has left the file `name`.
bool is_left_by_atomic_file(std::string_view name, std::string_view target);

}  // namespace trireme
