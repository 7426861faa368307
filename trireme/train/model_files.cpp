#include "trireme/train/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/sha256.h"
#include "trireme/checkpoint/agreement.h"
#include "trireme/formats/safetensors_index.h"

namespace trireme {

namespace {

ModelFiles digests_of(const Config::Model& model) {
  ModelFiles digests{{"path", ""}, {"weights", ""}};
  if (model.name == "torchscript") digests["path"] = sha256_of_file(model.path);
  if (model.weights.empty()) return digests;
  for (const auto& file : safetensors_files(model.weights)) {
    std::string& digest = digests["weights"];
    digest = digest.empty() ? sha256_of_file(file) : sha256(digest + sha256_of_file(file));
  }
  return digests;
}

}  // namespace

ModelFiles read_model_files(const Config& config, Communicator& world) {
  const std::vector<std::string> all =
      agree(world, [&] { return nlohmann::json(digests_of(config.model)).dump(); });
  const ModelFiles first = nlohmann::json::parse(all.front());
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    const ModelFiles other = nlohmann::json::parse(all[rank]);
    const auto [mine, theirs] = std::ranges::mismatch(first, other);
    if (mine == first.end() || theirs == other.end()) continue;
    throw UsageError(fmt::format(
        "all ranks must begin with the same model: the file of model.{} has the SHA-256 {} on rank "
        "0 and {} on rank {}; copy the same file to every host",
        mine->first, mine->second, theirs->second, rank));
  }
  return first;
}

}  // namespace trireme
