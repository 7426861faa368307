#include "trireme/launch/rendezvous/job_secret.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"

namespace trireme {

namespace {

constexpr std::size_t kLargestFile = 4096;
constexpr std::size_t kShortestText = 16;
constexpr std::string_view kBlanks = " \t\r\n";
// Derives different keys than other programs do from the same text.
constexpr std::string_view kContext = "trireme job secret";

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& what) {
  throw DataError(fmt::format("{}: {}", file.string(), what));
}

// The file is opened once, so that what is checked is what is read.
std::string text_of(const std::filesystem::path& file) {
  const FileDescriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!opened.is_open() || ::fstat(opened.fd(), &status) != 0) {
    refuse(file, fmt::format("cannot be read as a job secret: {}", std::strerror(errno)));
  }
  if (!S_ISREG(status.st_mode)) refuse(file, "a job secret must be a regular file");
  if ((status.st_mode & (S_IWGRP | S_IRWXO)) != 0) {
    refuse(file,
           fmt::format("is a job secret that other users may read or change; run chmod 600 {}",
                       file.string()));
  }
  std::string text(kLargestFile + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t bytes = ::read(opened.fd(), text.data() + size, text.size() - size);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) refuse(file, fmt::format("cannot be read: {}", std::strerror(errno)));
    if (bytes == 0) break;
    size += static_cast<std::size_t>(bytes);
  }
  if (size > kLargestFile) {
    refuse(file, fmt::format("a job secret must have at most {} bytes, got more", kLargestFile));
  }
  text.resize(size);
  return text;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

}  // namespace

JobSecret JobSecret::random() {
  Key key{};
  if (sodium_init() < 0) throw UsageError("job secret: libsodium has no source of randomness");
  randombytes_buf(key.data(), key.size());
  return JobSecret(key);
}

JobSecret JobSecret::from_file(const std::filesystem::path& file) {
  const std::string text = text_of(file);
  const std::string_view secret = trimmed(text);
  if (secret.size() < kShortestText) {
    refuse(file, fmt::format("a job secret must have at least {} characters, got {}; make one with "
                             "head -c 32 /dev/urandom | base64",
                             kShortestText, secret.size()));
  }
  Key key{};
  crypto_generichash(key.data(), key.size(), reinterpret_cast<const unsigned char*>(secret.data()),
                     secret.size(), reinterpret_cast<const unsigned char*>(kContext.data()),
                     kContext.size());
  return JobSecret(key);
}

JobSecret JobSecret::from_hex(std::string_view hex) {
  Key key{};
  std::size_t bytes = 0;
  const char* end = nullptr;
  // The text itself is a secret, so the error does not show it.
  if (hex.size() != 2 * kBytes ||
      sodium_hex2bin(key.data(), key.size(), hex.data(), hex.size(), nullptr, &bytes, &end) != 0 ||
      bytes != kBytes) {
    throw UsageError(fmt::format(
        "environment: TRIREME_JOB_SECRET must be {} hexadecimal digits, as `trireme run` sets it, "
        "got {} characters; name the file of a secret in TRIREME_JOB_SECRET_FILE instead",
        2 * kBytes, hex.size()));
  }
  return JobSecret(key);
}

std::string JobSecret::hex() const {
  std::string text(2 * kBytes + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), key_.data(), key_.size());
  text.pop_back();
  return text;
}

}  // namespace trireme
