#include "trireme/base/atomic_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "trireme/base/error.h"

namespace trireme {

AtomicFile::AtomicFile(std::filesystem::path path, Files& files)
    : files_(files), path_(std::move(path)), temporary_(path_) {
  temporary_ += fmt::format(".partial-{}", ::getpid());
  file_ = files_.create(temporary_, path_);
}

AtomicFile::~AtomicFile() {
  if (!file_) return;
  try {
    files_.remove(temporary_);
  } catch (const DataError&) {
    // A reader ignores it, and its name says what it is.
  }
}

void AtomicFile::write(std::string_view bytes) {
  file_->append(bytes);
}

void AtomicFile::commit() {
  file_->sync();
  files_.rename(temporary_, path_);
  file_.reset();
  files_.sync_directory(path_.has_parent_path() ? path_.parent_path() : ".");
}

}  // namespace trireme
