#include "trireme/train/resolved_config.h"

#include <filesystem>

namespace trireme {

Config resolved_config(const Trainer& trainer) {
  Config config = with_absolute_paths(trainer.config(), std::filesystem::current_path());
  if (const auto& schema = trainer.data().schema) config.data.features = schema->columns();
  return config;
}

}  // namespace trireme
