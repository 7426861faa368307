#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trireme/base/files.h"

namespace trireme {

/// Returns what is wrong with the checkpoint in `folder`, a sentence for each file, which it names:
/// nothing if it is whole. Looks at the manifest, whose hash it checks, and at the sizes of the
/// files.
std::vector<std::string> damage_by_size(const std::filesystem::path& folder,
                                        Files& files = real_files());

/// The same, but reads everything: every file is hashed, and every tensor must lie where the
/// manifest says.
std::vector<std::string> damage_by_hash(const std::filesystem::path& folder,
                                        Files& files = real_files());

}  // namespace trireme
