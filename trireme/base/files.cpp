#include "trireme/base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "trireme/base/error.h"

namespace trireme {

namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* verb, int error) {
  throw DataError(fmt::format("{}: cannot {}: {}", path.string(), verb, std::strerror(error)));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

void write_all(const std::filesystem::path& path, std::string_view bytes) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.fd() < 0) fail(path, "create", errno);
  while (!bytes.empty()) {
    const ssize_t n = ::write(file.fd(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path, "write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::fsync(file.fd()) != 0) fail(path, "sync", errno);
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) fail(path, "read", EISDIR);
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(path, "open", errno);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  if (in.bad()) fail(path, "read", EIO);
  return std::move(bytes).str();
}

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::path temporary = path;
  temporary += fmt::format(".partial-{}", ::getpid());
  try {
    write_all(temporary, bytes);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail(path, "rename to", errno);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.fd() >= 0) ::fsync(directory.fd());
}

}  // namespace trireme
