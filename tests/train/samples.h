#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/base/random.h"

namespace trireme::test {

/// Writes a table with the columns x0, x1, x2 and y, one row a sample. Its numbers are exact in
/// f32.
inline void write_table(const std::filesystem::path& path, int rows) {
  std::string table = "x0,x1,x2,y\n";
  for (int row = 0; row < rows; ++row) {
    const auto number = [row](int factor) { return (row * factor % 11 - 5) / 4.0; };
    table += fmt::format("{},{},{},{}\n", number(3), number(5), number(7), number(2) + row % 3);
  }
  write_file_atomically(path, table);
}

/// Writes an idx file of bytes.
inline void write_idx(const std::filesystem::path& path, const std::vector<std::uint32_t>& shape,
                      const std::string& bytes) {
  std::string file = {'\0', '\0', '\x08', static_cast<char>(shape.size())};
  for (const std::uint32_t extent : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(extent >> shift);
  }
  write_file_atomically(path, file + bytes);
}

/// Writes noisy images of three classes as the idx files images and labels. There are 203: a number
/// that neither batches nor ranks divide.
inline void write_images(const std::filesystem::path& folder) {
  constexpr std::uint32_t kImages = 203, kSide = 8;
  const CounterRandom random(5);
  std::string pixels, labels;
  for (std::uint32_t i = 0; i < kImages; ++i) {
    labels += static_cast<char>(i % 3);
    for (std::uint32_t p = 0; p < kSide * kSide; ++p) {
      const bool lit = p / kSide % 3 == i % 3;
      pixels += static_cast<char>(random.words(i * kSide * kSide + p)[0] % 100 + (lit ? 100 : 0));
    }
  }
  write_idx(folder / "images", {kImages, kSide, kSide}, pixels);
  write_idx(folder / "labels", {kImages}, labels);
}

}  // namespace trireme::test
