#include "trireme/launch/search_path.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>
#include <system_error>

namespace trireme {

std::filesystem::path find_program(const std::string& name) {
  const char* value = std::getenv("PATH");
  std::string_view rest = value == nullptr ? "/usr/bin:/bin" : value;
  for (;;) {
    const std::size_t colon = rest.find(':');
    const auto path = std::filesystem::path(rest.substr(0, colon)) / name;
    std::error_code error;
    if (::access(path.c_str(), X_OK) == 0 && !std::filesystem::is_directory(path, error)) {
      const auto real = std::filesystem::canonical(path, error);
      return error ? path : real;
    }
    if (colon == std::string_view::npos) return {};
    rest.remove_prefix(colon + 1);
  }
}

}  // namespace trireme
