#pragma once

#include <filesystem>
#include <string>

namespace trireme {

/// Returns the file of the program `name` that the shell would find in PATH, with symbolic links
/// followed; empty if there is none.
std::filesystem::path find_program(const std::string& name);

}  // namespace trireme
