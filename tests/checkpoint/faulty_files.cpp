// Takes the place of libc's file operations in this test program: the library is tested as it is,
// down to the C++ library's own calls.
#include "tests/checkpoint/faulty_files.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace trireme::test {

namespace {

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

struct Identity {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const Identity&) const = default;
};

Identity identity_of(int fd) {
  struct stat status {};
  ::fstat(fd, &status);
  return {status.st_dev, status.st_ino};
}

// A file whose contents, or a name in a folder which, would not survive.
struct Unsynced {
  Identity identity;  // of what fsync() makes safe: the file, or the folder
  int fd = -1;        // the file, or the folder
  std::string name;   // in the folder; empty for contents
};

struct State {
  std::mutex mutex;
  std::optional<Fault> fault;
  int operations = 0;
  bool struck = false;
  std::vector<Unsynced> unsynced;
};

State& state() {
  static State state;
  return state;
}

[[noreturn]] void cut_power(State& s) {
  for (const Unsynced& item : s.unsynced) {
    if (item.name.empty()) {
      (void)!::ftruncate(item.fd, 0);
    } else {
      next<int(int, const char*, int)>("unlinkat")(item.fd, item.name.c_str(), 0);
    }
  }
  ::_exit(kPowerCutStatus);
}

// True if the operation that is about to take place must fail.
bool strikes() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (!s.fault || s.operations++ != s.fault->operation) return false;
  s.struck = true;
  if (s.fault->kind == Fault::kPowerCut) cut_power(s);
  errno = ENOSPC;
  return true;
}

bool is_armed() {
  return state().fault.has_value();
}

void remember_name(const std::filesystem::path& path) {
  const int folder = next<int(const char*, int, ...)>("open")(path.parent_path().c_str(),
                                                              O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::lock_guard lock(state().mutex);
  state().unsynced.push_back({identity_of(folder), folder, path.filename().string()});
}

void forget_name(const std::filesystem::path& path) {
  const std::lock_guard lock(state().mutex);
  std::erase_if(state().unsynced, [&](const Unsynced& u) { return u.name == path.filename(); });
}

void remember_contents(int fd) {
  const std::lock_guard lock(state().mutex);
  state().unsynced.push_back({identity_of(fd), ::dup(fd), ""});
}

bool is_followed(int fd) {
  const Identity identity = identity_of(fd);
  const std::lock_guard lock(state().mutex);
  return std::any_of(state().unsynced.begin(), state().unsynced.end(),
                     [&](const Unsynced& u) { return u.identity == identity; });
}

void forget_synced(int fd) {
  const Identity identity = identity_of(fd);
  const std::lock_guard lock(state().mutex);
  std::erase_if(state().unsynced, [&](const Unsynced& u) { return u.identity == identity; });
}

}  // namespace

void arm(Fault fault) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.fault = fault;
  s.operations = 0;
  s.struck = false;
  s.unsynced.clear();
}

bool disarm() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.fault.reset();
  return s.struck;
}

}  // namespace trireme::test

using namespace trireme::test;

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  const auto real = next<int(const char*, int, ...)>("open");
  if (!is_armed() || (flags & O_CREAT) == 0) return real(path, flags, mode);
  if (strikes()) return -1;
  const int fd = real(path, flags, mode);
  if (fd >= 0) {
    remember_name(path);
    remember_contents(fd);
  }
  return fd;
}

ssize_t write(int fd, const void* bytes, size_t count) {
  if (is_armed() && is_followed(fd) && strikes()) return -1;
  return next<ssize_t(int, const void*, size_t)>("write")(fd, bytes, count);
}

ssize_t writev(int fd, const iovec* pieces, int count) {
  if (is_armed() && is_followed(fd) && strikes()) return -1;
  return next<ssize_t(int, const iovec*, int)>("writev")(fd, pieces, count);
}

int fsync(int fd) {
  if (is_armed()) {
    if (strikes()) return -1;
    forget_synced(fd);
  }
  return next<int(int)>("fsync")(fd);
}

int rename(const char* from, const char* to) {
  if (is_armed() && strikes()) return -1;
  const int result = next<int(const char*, const char*)>("rename")(from, to);
  if (is_armed() && result == 0) {
    forget_name(from);
    remember_name(to);
  }
  return result;
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  if (is_armed() && strikes()) return -1;
  return next<int(int, const char*, int, const char*, unsigned)>("renameat2")(from_folder, from,
                                                                              to_folder, to, flags);
}

int mkdir(const char* path, mode_t mode) {
  if (is_armed() && strikes()) return -1;
  return next<int(const char*, mode_t)>("mkdir")(path, mode);
}

int unlink(const char* path) {
  if (is_armed() && strikes()) return -1;
  return next<int(const char*)>("unlink")(path);
}

int unlinkat(int folder, const char* path, int flags) {
  if (is_armed() && strikes()) return -1;
  return next<int(int, const char*, int)>("unlinkat")(folder, path, flags);
}

}  // extern "C"
