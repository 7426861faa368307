#pragma once

namespace trireme {

/// The file and line of a call, so that an error can name it. A function takes it as its last
/// parameter with the default `SourceLocation::current()`, which is the place of the call. It
/// stands in for std::source_location, which clang 14 does not have.
struct SourceLocation {
  const char* file = "";  ///< lives as long as the program
  int line = 0;
  /// The function that was called there, if it called the one that fails: CallScope.
  const char* caller = nullptr;

  static constexpr SourceLocation current(const char* file = __builtin_FILE(),
                                          int line = __builtin_LINE()) {
    return {.file = file, .line = line};
  }
};

}  // namespace trireme
