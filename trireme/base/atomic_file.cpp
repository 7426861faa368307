#include "trireme/base/atomic_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "trireme/base/error.h"

namespace trireme {

AtomicFile::AtomicFile(std::filesystem::path path, Files& files)
    : files_(files), path_(std::move(path)), temporary_(path_) {
  if (files_.kind_of(path_) != FileKind::kNone) require_file(path_, files_);
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

bool is_left_by_atomic_file(std::string_view name, std::string_view target) {
  constexpr std::string_view kMark = ".partial-";
  if (!name.starts_with(target)) return false;
  name.remove_prefix(target.size());
  if (!name.starts_with(kMark) || name == kMark) return false;
  name.remove_prefix(kMark.size());
  return name.find_first_not_of("0123456789") == std::string_view::npos;
}

void AtomicFile::write(std::string_view bytes) {
  file_->append(bytes);
}

void AtomicFile::overwrite(std::int64_t offset, std::string_view bytes) {
  file_->overwrite(offset, bytes);
}

void AtomicFile::commit() {
  file_->sync();
  files_.rename(temporary_, path_);
  file_.reset();
  files_.sync_directory(path_.has_parent_path() ? path_.parent_path() : ".");
}

}  // namespace trireme
