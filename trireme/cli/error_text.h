#pragma once

#include <exception>
#include <string>

namespace trireme::cli {

/// Returns what the user is told of `error`, in one line: the message of an Error, and for what
/// libtorch, the C++ library and the system throw whose error it is, without the stack that
/// libtorch appends.
std::string message_of(const std::exception& error);

/// Returns the exit code of a rank or command that ends in `error`.
int exit_code_of_rank(const std::exception& error);

}  // namespace trireme::cli
