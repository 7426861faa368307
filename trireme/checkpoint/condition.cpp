#include "trireme/checkpoint/condition.h"

#include <functional>
#include <set>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/checkpoint/chunk_files.h"
#include "trireme/checkpoint/manifest.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

// The sentences of what `check` throws.
class Damage {
 public:
  // Returns true if nothing was wrong.
  bool note(const std::function<void()>& check) {
    try {
      check();
      return true;
    } catch (const DataError& error) {
      sentences_.emplace_back(error.what());
      return false;
    }
  }

  std::vector<std::string> sentences() && { return std::move(sentences_); }

 private:
  std::vector<std::string> sentences_;
};

void require_tensors(const Manifest& manifest, const ChunkFiles& stored,
                     const std::set<std::size_t>& whole, Damage& damage) {
  std::set<std::size_t> wrong;
  for (const auto& entry : manifest.tensors) {
    const Manifest::Tensor& tensor = entry.second;
    for (const Manifest::Chunk& chunk : tensor.chunks) {
      if (!whole.contains(chunk.file) || wrong.contains(chunk.file)) continue;
      const bool is_there = damage.note([&] { stored.require(entry.first, tensor.dtype, chunk); });
      if (!is_there) wrong.insert(chunk.file);
    }
  }
}

std::vector<std::string> damage_of(const fs::path& folder, bool reads_all, Files& files) {
  Damage damage;
  Manifest manifest;
  if (!damage.note([&] { manifest = read_manifest(folder, files); })) {
    return std::move(damage).sentences();
  }
  ChunkFiles stored(folder, manifest, files);
  std::set<std::size_t> whole;
  for (std::size_t file = 0; file < manifest.files.size(); ++file) {
    const bool is_whole =
        damage.note([&] { reads_all ? stored.verify(file) : stored.require_size(file); });
    if (is_whole) whole.insert(file);
  }
  if (reads_all) require_tensors(manifest, stored, whole, damage);
  return std::move(damage).sentences();
}

}  // namespace

std::vector<std::string> damage_by_size(const fs::path& folder, Files& files) {
  return damage_of(folder, false, files);
}

std::vector<std::string> damage_by_hash(const fs::path& folder, Files& files) {
  return damage_of(folder, true, files);
}

}  // namespace trireme
