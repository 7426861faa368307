#pragma once

#include <filesystem>
#include <string_view>

#include "trireme/base/file_descriptor.h"

namespace trireme {

/// A file that appears under its name as a whole or not at all: written piece by piece under a
/// temporary name beside it, then synced and renamed.
///
///     AtomicFile file("model.safetensors");
///     file.write(header);
///     file.write(weights);
///     file.commit();
///
/// Without commit() the temporary file is removed and what `path` held before stays. Every step
/// throws DataError naming the path and the system's reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);

  /// fsync, rename, fsync of the folder.
  void commit();

 private:
  [[noreturn]] void fail(const char* verb) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileDescriptor file_;
};

}  // namespace trireme
