#include "trireme/train/data_digest.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/objects.h"

namespace trireme {

namespace {

constexpr std::int64_t kBlock = std::int64_t{1} << 20;
constexpr std::int64_t kBlocks = 64;

class Hash {
 public:
  Hash() { crypto_generichash_init(&state_, nullptr, 0, kBytes); }

  void add(const void* bytes, std::size_t count) {
    crypto_generichash_update(&state_, static_cast<const unsigned char*>(bytes), count);
  }

  std::string hexadecimal() {
    std::array<unsigned char, kBytes> digest{};
    crypto_generichash_final(&state_, digest.data(), digest.size());
    std::string text;
    for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
    return text;
  }

 private:
  static constexpr std::size_t kBytes = 16;
  crypto_generichash_state state_;
};

// The first bytes of the blocks to read.
std::vector<std::int64_t> blocks_of(std::int64_t size, bool is_mapped) {
  std::vector<std::int64_t> blocks;
  if (!is_mapped || size <= kBlock * kBlocks) {
    for (std::int64_t at = 0; at < size; at += kBlock) blocks.push_back(at);
    return blocks;
  }
  for (std::int64_t i = 0; i < kBlocks; ++i) {
    blocks.push_back((size - kBlock) / (kBlocks - 1) * i);
  }
  blocks.back() = size - kBlock;
  return blocks;
}

void add_file(const std::filesystem::path& path, bool is_mapped, Hash& hash) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) throw DataError(fmt::format("{}: cannot be read", path.string()));
  const auto size = static_cast<std::int64_t>(in.tellg());
  std::vector<char> block(static_cast<std::size_t>(kBlock));
  hash.add(&size, sizeof(size));
  for (const std::int64_t at : blocks_of(size, is_mapped)) {
    const std::int64_t count = std::min(kBlock, size - at);
    in.seekg(at);
    in.read(block.data(), count);
    if (!in) throw DataError(fmt::format("{}: cannot be read to its end", path.string()));
    hash.add(block.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace

DataDigest digest_of_data(const Config& config) {
  const Config::Data& data = config.data;
  const bool is_mapped = data.format == "idx" || data.format == "tokens";
  std::vector<std::string> paths;
  const bool is_table_or_text = data.format == "csv" || data.format == "text";
  if (is_table_or_text || data.format == "tokens") paths = {data.path, data.test_path};
  if (data.format == "text" && data.tokenizer != "characters" && data.tokenizer != "bytes")
    paths.push_back(data.tokenizer);
  if (data.format == "idx") paths = {data.images, data.labels, data.test_images, data.test_labels};
  std::erase(paths, "");
  if (paths.empty()) return {"", "generated data"};
  Hash hash;
  bool is_whole = true;
  for (const std::string& path : paths) {
    add_file(path, is_mapped, hash);
    const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path));
    is_whole = is_whole && !(is_mapped && size > kBlock * kBlocks);
  }
  return {hash.hexadecimal(), is_whole ? "all bytes" : "the size and 64 blocks of 1 MiB"};
}

void require_same_data(const DataDigest& digest, Communicator& world) {
  const std::vector<std::string> all = all_gather_objects(world, digest.value);
  const auto other =
      std::ranges::find_if(all, [&](const std::string& value) { return value != all.front(); });
  if (other == all.end()) return;
  const auto others = std::ranges::count_if(all, [&](const auto& v) { return v != all.front(); });
  throw UsageError(fmt::format(
      "all ranks must have the same data: of the files that [data] names the digest is {} on rank "
      "0 and {} on rank {}{}; copy the same files to every host",
      all.front(), *other, other - all.begin(),
      others == 1 ? "" : fmt::format(" ({} ranks differ)", others)));
}

}  // namespace trireme
