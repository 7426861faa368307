#include "trireme/base/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"

namespace trireme {

FileDescriptor open_output_file(const char* name) {
  FileDescriptor file(::memfd_create(name, MFD_CLOEXEC));
  if (!file.is_open() || ::fcntl(file.fd(), F_SETFL, O_APPEND) != 0) {
    throw DataError(
        fmt::format("{}: cannot make a file in memory: {}", name, memory_file_reason(errno)));
  }
  return file;
}

}  // namespace trireme
