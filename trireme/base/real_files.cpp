#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/files.h"
#include "trireme/base/system_error.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostBytes = 1u << 30;  // of one call

std::string reason_of(int error) {
  const bool is_limit = error == EMFILE || error == ENFILE;
  return is_limit ? system_reason(error) : std::strerror(error);
}

[[noreturn]] void fail(const fs::path& path, std::string_view verb, int error) {
  throw DataError(fmt::format("{}: cannot {}: {}", path.string(), verb, reason_of(error)));
}

class RealFile final : public File {
 public:
  RealFile(FileDescriptor file, fs::path shown_as)
      : file_(std::move(file)), shown_as_(std::move(shown_as)) {}

  std::int64_t size() const override { return status().st_size; }

  std::size_t read(std::int64_t offset, std::span<char> out) const override {
    std::size_t read = 0;
    while (read < out.size()) {
      const ssize_t n =
          ::pread(file_.fd(), out.data() + read, std::min(out.size() - read, kMostBytes),
                  offset + static_cast<std::int64_t>(read));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == ESPIPE) return read_stream(out);
      if (n < 0) fail(shown_as_, "read", errno);
      if (n == 0) break;
      read += static_cast<std::size_t>(n);
    }
    return read;
  }

  void append(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::write(file_.fd(), bytes.data(), std::min(bytes.size(), kMostBytes));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(shown_as_, "write", errno);
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  void overwrite(std::int64_t offset, std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t n =
          ::pwrite(file_.fd(), bytes.data(), std::min(bytes.size(), kMostBytes), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(shown_as_, "write", errno);
      bytes.remove_prefix(static_cast<std::size_t>(n));
      offset += n;
    }
  }

  void sync() override {
    if (::fsync(file_.fd()) != 0) fail(shown_as_, "sync", errno);
  }

  bool is_directory() const { return S_ISDIR(status().st_mode); }
  bool is_file() const { return S_ISREG(status().st_mode); }

  // True if the name `path` still leads to this file.
  bool is_at(const fs::path& path) const {
    struct stat there {};
    const struct stat mine = status();
    return ::stat(path.c_str(), &there) == 0 && there.st_ino == mine.st_ino &&
           there.st_dev == mine.st_dev;
  }

  // Returns false if another process has the lock.
  bool try_lock() const {
    if (::flock(file_.fd(), LOCK_EX | LOCK_NB) == 0) return true;
    if (errno == EWOULDBLOCK) return false;
    const bool has_no_locks = errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOLCK;
    if (!has_no_locks) fail(shown_as_, "lock", errno);
    return true;
  }

  void clear() const {
    if (::ftruncate(file_.fd(), 0) != 0) fail(shown_as_, "write", errno);
  }

 private:
  // A pipe has no offsets; its reader must read in order.
  std::size_t read_stream(std::span<char> out) const {
    std::size_t read = 0;
    while (read < out.size()) {
      const ssize_t n = ::read(file_.fd(), out.data() + read, out.size() - read);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(shown_as_, "read", errno);
      if (n == 0) break;
      read += static_cast<std::size_t>(n);
    }
    return read;
  }

  struct stat status() const {
    struct stat status {};
    if (::fstat(file_.fd(), &status) != 0) fail(shown_as_, "open", errno);
    return status;
  }

  FileDescriptor file_;
  fs::path shown_as_;
};

// Without O_NONBLOCK, a FIFO would wait for its reader.
std::unique_ptr<RealFile> open_to_write(const fs::path& path, const fs::path& shown_as, int flags,
                                        const char* verb) {
  const auto refuse = [&] {
    throw DataError(fmt::format("{}: cannot {}: it is no file but a FIFO, a socket or a device",
                                shown_as.string(), verb));
  };
  FileDescriptor file(::open(path.c_str(), flags | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666));
  if (!file.is_open() && errno == ENXIO) refuse();
  if (!file.is_open()) fail(shown_as, verb, errno);
  auto opened = std::make_unique<RealFile>(std::move(file), shown_as);
  if (!opened->is_file()) refuse();
  return opened;
}

class RealFiles final : public Files {
 public:
  std::unique_ptr<File> open(const fs::path& path) override {
    FileDescriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!descriptor.is_open()) fail(path, "open", errno);
    auto file = std::make_unique<RealFile>(std::move(descriptor), path);
    if (file->is_directory()) fail(path, "read", EISDIR);
    return file;
  }

  std::unique_ptr<File> create(const fs::path& path, const fs::path& shown_as) override {
    return open_to_write(path, shown_as, O_WRONLY | O_TRUNC, "create");
  }

  std::unique_ptr<File> open_to_append(const fs::path& path) override {
    return open_to_write(path, path, O_WRONLY | O_APPEND, "write");
  }

  std::unique_ptr<File> lock(const fs::path& path, std::string_view holder) override {
    while (true) {
      auto file = open_to_write(path, path, O_RDWR | O_APPEND | O_NOFOLLOW, "lock");
      if (!file->try_lock()) return nullptr;
      // The last holder may have removed the file between the two.
      if (!file->is_at(path)) continue;
      file->clear();
      file->append(holder);
      return file;
    }
  }

  FileKind kind_of(const fs::path& path) override {
    std::error_code error;
    const fs::file_type type = fs::status(path, error).type();
    if (type == fs::file_type::none) fail(path, "open", error.value());
    if (type == fs::file_type::not_found) return FileKind::kNone;
    if (type == fs::file_type::regular) return FileKind::kFile;
    return type == fs::file_type::directory ? FileKind::kDirectory : FileKind::kOther;
  }

  bool is_link(const fs::path& path) override {
    std::error_code error;
    const fs::file_type type = fs::symlink_status(path, error).type();
    if (type == fs::file_type::none) fail(path, "open", error.value());
    return type == fs::file_type::symlink;
  }

  std::vector<std::string> names_in(const fs::path& directory) override {
    std::error_code error;
    std::vector<std::string> names;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error)) {
      names.push_back(entry->path().filename().string());
    }
    if (error) fail(directory, "list", error.value());
    return names;
  }

  void make_directory(const fs::path& path) override {
    if (::mkdir(path.c_str(), 0777) == 0) return;
    const int error = errno;
    const bool exists = error == EEXIST && kind_of(path) == FileKind::kDirectory;
    if (!exists) fail(path, "create", error);
  }

  void rename(const fs::path& from, const fs::path& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      fail(to, fmt::format("rename {} to it", from.string()), errno);
    }
  }

  void remove(const fs::path& path) override {
    if (::remove(path.c_str()) != 0 && errno != ENOENT) fail(path, "remove", errno);
  }

  void sync_directory(const fs::path& path) override {
    const FileDescriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.is_open()) fail(path, "sync", errno);
    // Some network file systems know no sync of directories.
    if (::fsync(directory.fd()) != 0 && errno != EINVAL) fail(path, "sync", errno);
  }
};

}  // namespace

Files& real_files() {
  static RealFiles files;
  return files;
}

}  // namespace trireme
