#include "trireme/server/zmq/keys.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/files.h"

namespace trireme::server {

namespace {

constexpr std::size_t kKeyLength = 40;
constexpr std::uintmax_t kLargestKeyFile = 256;

bool is_name(std::string_view name) {
  return !name.empty() && !name.starts_with('.') && std::ranges::all_of(name, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
  });
}

void create(const std::filesystem::path& path, std::string_view bytes, mode_t mode) {
  const FileDescriptor file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!file.is_open()) {
    throw DataError(fmt::format("{}: cannot be created: {}{}", path.string(), std::strerror(errno),
                                errno == EEXIST ? "; keys are never overwritten" : ""));
  }
  if (::write(file.fd(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
      ::fsync(file.fd()) != 0) {
    throw DataError(fmt::format("{}: cannot be written: {}", path.string(), std::strerror(errno)));
  }
}

// Users who may write a folder can replace the keys in it, whatever their own modes are. A file
// system that is mounted read-only, as Kubernetes mounts secrets with a mode of 0777, has no such
// writer.
void refuse_writable_folder(const std::filesystem::path& folder) {
  struct stat status {};
  struct statvfs system {};
  if (::stat(folder.c_str(), &status) != 0) return;  // what is opened next says why
  const bool is_read_only =
      ::statvfs(folder.c_str(), &system) == 0 && (system.f_flag & ST_RDONLY) != 0;
  const bool is_ours = status.st_uid == ::geteuid() || status.st_uid == 0;
  const bool is_private = is_ours && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
  if (is_private || is_read_only) return;
  throw DataError(fmt::format(
      "{}: is a folder of keys that other users may write (mode {:04o}, owner {}); run chmod go-w "
      "{}, as its owner",
      folder.string(), status.st_mode & 07777, status.st_uid, folder.string()));
}

// Makes the folder with mode 0700 whatever the umask, or checks the one that is there.
void make_key_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "keys/"
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error) throw DataError(fmt::format("{}: {}", folder.string(), error.message()));
  if (::mkdir(path.c_str(), 0700) == 0) {
    if (::chmod(path.c_str(), 0700) == 0) return;
  } else if (errno == EEXIST) {
    return refuse_writable_folder(path);
  }
  throw DataError(fmt::format("{}: cannot be made: {}", folder.string(), std::strerror(errno)));
}

std::string read_key(const std::filesystem::path& file) {
  refuse_writable_folder(file.has_parent_path() ? file.parent_path() : ".");
  std::error_code error;
  if (std::filesystem::file_size(file, error) > kLargestKeyFile && !error) {
    throw DataError(fmt::format("{}: must hold a key of {} characters, got a larger file",
                                file.string(), kKeyLength));
  }
  std::string text = read_file(file);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
    text.pop_back();
  }
  std::array<std::uint8_t, 32> bytes{};
  if (text.size() != kKeyLength || zmq_z85_decode(bytes.data(), text.c_str()) == nullptr) {
    throw DataError(
        fmt::format("{}: must hold a key of {} characters (Z85), as `trireme keys new` "
                    "writes it",
                    file.string(), kKeyLength));
  }
  return text;
}

}  // namespace

KeyPair new_key_pair() {
  std::array<char, kKeyLength + 1> open{};
  std::array<char, kKeyLength + 1> secret{};
  if (zmq_curve_keypair(open.data(), secret.data()) != 0) {
    throw UsageError("keys: this libzmq has no CURVE; build it with libsodium");
  }
  return {open.data(), secret.data()};
}

void write_key_files(const std::filesystem::path& folder, std::string_view name,
                     const KeyPair& keys) {
  if (!is_name(name)) {
    throw UsageError(fmt::format(
        "keys: a name has letters, digits, '-', '_' and '.', and does not begin with '.', got "
        "\"{}\"",
        name));
  }
  make_key_folder(folder);
  // The secret first: a public key without its secret is useless.
  create(folder / fmt::format("{}.secret", name), keys.secret_key + "\n", 0600);
  create(folder / fmt::format("{}.key", name), keys.public_key + "\n", 0644);
}

std::string read_public_key(const std::filesystem::path& file) {
  return read_key(file);
}

KeyPair read_key_pair(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) == 0 && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    throw DataError(fmt::format("{}: is a secret key that other users may read; run chmod 600 {}",
                                file.string(), file.string()));
  }
  KeyPair keys{.public_key = "", .secret_key = read_key(file)};
  std::array<char, kKeyLength + 1> open{};
  if (zmq_curve_public(open.data(), keys.secret_key.c_str()) != 0) {
    throw UsageError("keys: this libzmq has no CURVE; build it with libsodium");
  }
  keys.public_key = open.data();
  return keys;
}

}  // namespace trireme::server
