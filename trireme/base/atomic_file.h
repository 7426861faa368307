#pragma once

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
/// Without commit(), the temporary file is removed and `path` keeps what it held before. Every
/// function throws DataError, which names the path and the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path, Files& files = real_files());
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);

  /// Syncs the file, renames it and syncs its directory.
  void commit();

 private:
  Files& files_;
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::unique_ptr<File> file_;
};

}  // namespace trireme
