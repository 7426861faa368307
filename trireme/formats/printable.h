#pragma once

#include <string>
#include <string_view>

namespace trireme {

/// `text` between double quotes, fit for an error message whatever a file put into it: quotes and
/// backslashes are escaped, bytes outside printable ASCII written as \xNN, and what is longer than
/// 64 bytes is cut and ends in "...".
std::string printable(std::string_view text);

}  // namespace trireme
