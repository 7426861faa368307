#pragma once

namespace trireme {

/// A place in the source of whoever called, so that errors can name it. As the last parameter of a
/// function with `= Where::here()` it fills itself in.
struct Where {
  const char* file = "";  ///< lives as long as the program
  int line = 0;

  static constexpr Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

}  // namespace trireme
