#pragma once

#include <string>
#include <string_view>

namespace trireme {

/// config.toml ends in a digest of its own lines, by which a run knows that the file is as trireme
/// has written it, and not changed by hand or torn by a copy.

/// Returns `text`, of whole lines, with the line of its digest.
std::string sealed(std::string text);

/// Returns true if `text` ends in the digest of its own lines.
bool is_sealed(std::string_view text);

}  // namespace trireme
