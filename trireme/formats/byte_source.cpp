#include "trireme/formats/byte_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"

namespace trireme {

namespace {

class FileSource final : public ByteSource {
 public:
  FileSource(FileDescriptor file, std::string name, bool may_be_stream)
      : name_(std::move(name)), file_(std::move(file)) {
    if (!file_.is_open()) fail("open");
    struct stat status;
    if (::fstat(file_.fd(), &status) != 0) fail("read");
    const bool is_file = S_ISREG(status.st_mode);
    if (!is_file && !may_be_stream) throw DataError(fmt::format("{}: must be a file", name_));
    left_ = is_file ? status.st_size : std::numeric_limits<std::int64_t>::max();
  }

  std::size_t read(std::span<char> out) override {
    std::size_t filled = 0;
    while (filled < out.size()) {
      const ssize_t n = ::read(file_.fd(), out.data() + filled, out.size() - filled);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("read");
      if (n == 0) break;
      filled += static_cast<std::size_t>(n);
    }
    left_ = std::max<std::int64_t>(0, left_ - static_cast<std::int64_t>(filled));
    return filled;
  }

  std::int64_t at_most() const override { return left_; }

 private:
  [[noreturn]] void fail(const char* verb) const {
    throw DataError(fmt::format("{}: cannot {}: {}", name_, verb, std::strerror(errno)));
  }

  std::string name_;
  FileDescriptor file_;
  std::int64_t left_ = 0;
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : left_(bytes) {}

  std::size_t read(std::span<char> out) override {
    const std::size_t n = left_.copy(out.data(), out.size());
    left_.remove_prefix(n);
    return n;
  }

  std::int64_t at_most() const override { return static_cast<std::int64_t>(left_.size()); }

 private:
  std::string_view left_;
};

}  // namespace

std::unique_ptr<ByteSource> open_file(const std::filesystem::path& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return std::make_unique<FileSource>(std::move(file), path.string(), false);
}

std::unique_ptr<ByteSource> read_stream(int fd, std::string name) {
  FileDescriptor file(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return std::make_unique<FileSource>(std::move(file), std::move(name), true);
}

std::unique_ptr<ByteSource> bytes_of(std::string_view bytes) {
  return std::make_unique<MemorySource>(bytes);
}

}  // namespace trireme
