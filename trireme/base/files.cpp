#include "trireme/base/files.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "trireme/base/atomic_file.h"
#include "trireme/base/error.h"

namespace trireme {

namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* verb, int error) {
  throw DataError(fmt::format("{}: cannot {}: {}", path.string(), verb, std::strerror(error)));
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
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace trireme
