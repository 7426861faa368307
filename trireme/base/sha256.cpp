#include "trireme/base/sha256.h"

#include <fmt/format.h>
#include <sodium/crypto_hash_sha256.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace trireme {

namespace {

class Sha256 {
 public:
  Sha256() { crypto_hash_sha256_init(&state_); }

  void add(std::string_view bytes) {
    crypto_hash_sha256_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()),
                              bytes.size());
  }

  std::string finish() {
    std::array<unsigned char, crypto_hash_sha256_BYTES> digest;
    crypto_hash_sha256_final(&state_, digest.data());
    return fmt::format("{:02x}", fmt::join(digest, ""));
  }

 private:
  crypto_hash_sha256_state state_;
};

}  // namespace

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.finish();
}

std::string sha256_of_file(const std::filesystem::path& path, Files& files) {
  const std::unique_ptr<File> file = files.open(path);
  Sha256 hash;
  std::vector<char> chunk(1 << 20);
  for (std::int64_t offset = 0;;) {
    const std::size_t n = file->read(offset, chunk);
    if (n == 0) return hash.finish();
    hash.add({chunk.data(), n});
    offset += static_cast<std::int64_t>(n);
  }
}

}  // namespace trireme
