#include "trireme/base/system_error.h"

#include <cerrno>
#include <cstring>
#include <system_error>

#include "trireme/base/error.h"

namespace trireme {

namespace {

const char* advice_on(int error) {
  switch (error) {
    case EMFILE:
      return "raise the limit of open files (ulimit -n) or start fewer ranks";
    case ENFILE:
      return "the whole host has too many open files: end other programs or raise fs.file-max";
    case EAGAIN:
      return "raise the limit of processes and threads (ulimit -u, or pids.max of the cgroup) or "
             "start fewer ranks";
    case ENOMEM:
      return "raise the limit of memory (ulimit -v, or memory.max of the cgroup), start fewer "
             "ranks "
             "or use a smaller model";
    default:
      return nullptr;
  }
}

}  // namespace

std::string system_reason(int error) {
  const char* advice = advice_on(error);
  return advice == nullptr ? std::strerror(error)
                           : std::string(std::strerror(error)) + "; " + advice;
}

std::string memory_file_reason(int error) {
  const bool is_forbidden = error == EPERM || error == EACCES || error == ENOSYS;
  return system_reason(error) +
         (is_forbidden ? "; the sandbox or container of this program must allow memfd_create" : "");
}

std::thread start_thread(const char* purpose, std::function<void()> body) {
  try {
    return std::thread(std::move(body));
  } catch (const std::system_error& error) {
    throw UsageError(std::string(purpose) +
                     ": cannot start a thread: " + system_reason(error.code().value()));
  }
}

}  // namespace trireme
