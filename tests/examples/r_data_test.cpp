// Data files of R packages, and files that only look like them.

#include "examples/matrix_factorization/r_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "tests/examples/example_folder.h"
#include "trireme/base/error.h"

namespace trireme::examples {
namespace {

using test::ExampleFolder;
using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kNames = {"s", "y"};

std::string word(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

std::string chars(const std::string& text) {
  return word(0x40009) + word(static_cast<std::uint32_t>(text.size())) + text;
}

std::string integers(const std::vector<std::uint32_t>& values, std::uint32_t flags = 0) {
  std::string bytes = word(0x0d | flags) + word(static_cast<std::uint32_t>(values.size()));
  for (const std::uint32_t value : values) bytes += word(value);
  return bytes;
}

// data.frame(y = 1:3, x = c(0.5, 1, 2), s = factor(...)) as saveRDS() lays it down.
std::string data_frame() {
  std::string bytes = "X\n" + word(3) + word(0x40202) + word(0x30500) + word(5) + "UTF-8";
  bytes += word(0x313) + word(3) + integers({1, 2, 3}) + word(0x0e) + word(3) + std::string(24, 1);
  bytes += integers({2, 1, 2}, 0x300);
  bytes += word(0x402) + word(1) + chars("levels") + word(0x10) + word(2) + chars("a") + chars("b");
  bytes += word(0x402) + word(1) + chars("class") + word(0x10) + word(1) + chars("factor");
  bytes += word(0xfe);
  bytes += word(0x402) + word(1) + chars("names");
  bytes += word(0x10) + word(3) + chars("y") + chars("x") + chars("s");
  bytes += word(0x402) + word(0x2ff) + word(0x10) + word(1) + chars("data.frame") + word(0xfe);
  return bytes;
}

std::string entry(const std::string& raw) {
  std::string packed(compressBound(raw.size()), '\0');
  uLongf size = packed.size();
  compress(reinterpret_cast<Bytef*>(packed.data()), &size,
           reinterpret_cast<const Bytef*>(raw.data()), raw.size());
  return word(static_cast<std::uint32_t>(raw.size())) + packed.substr(0, size);
}

std::string error_of(const std::string& bytes) {
  try {
    parse_data_frame(bytes, "ratings.rdb", kNames);
  } catch (const DataError& error) {
    return error.what();
  }
  return "no error";
}

TEST(RData, InstEvalIsWhatItsDocumentationSays) {
  const ExampleFolder folder;
  const DataFrame frame = read_data_frame(folder / ".cache/data/insteval/Rdata.rdb",
                                          std::vector<std::string>{"s", "d", "y"});
  ASSERT_EQ(frame.columns.size(), 3u);
  for (const auto& column : frame.columns) EXPECT_EQ(column.size(), 73421u);
  EXPECT_EQ(std::ranges::max(frame.columns[0]), 2972);
  EXPECT_EQ(std::ranges::max(frame.columns[1]), 1128);
  EXPECT_EQ(std::ranges::min(frame.columns[2]), 1);
  EXPECT_EQ(std::ranges::max(frame.columns[2]), 5);
}

TEST(RData, TheFirstFrameThatHasTheColumnsIsTaken) {
  const std::string other = "X\n" + word(2) + word(0) + word(0) + integers({1, 2});
  const DataFrame frame = parse_data_frame(entry(other) + entry(data_frame()), "file", kNames);
  EXPECT_THAT(frame.names, ElementsAre("s", "y"));
  EXPECT_THAT(frame.columns, ElementsAre(ElementsAre(2, 1, 2), ElementsAre(1, 2, 3)));
}

TEST(RData, AColumnThatIsMissingIsNamed) {
  EXPECT_THAT(error_of(entry("X\n" + word(2) + word(0) + word(0) + integers({1}))),
              HasSubstr("ratings.rdb: wanted a data frame with the integer columns s, y"));
  EXPECT_THAT(error_of(""), HasSubstr("got none"));
}

TEST(RData, ATornFileIsAnError) {
  const std::string whole = entry(data_frame());
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_NE(error_of(whole.substr(0, bytes)), "no error") << bytes;
  }
  const std::string raw = data_frame();
  for (std::size_t bytes = 0; bytes < raw.size(); ++bytes) {
    EXPECT_THAT(error_of(entry(raw.substr(0, bytes))), HasSubstr("ratings.rdb, entry 1, byte"))
        << bytes;
  }
}

// Whatever a byte is: an error of ours, or a frame.
TEST(RData, ADamagedFileIsReadOrRefused) {
  const std::string raw = data_frame();
  for (std::size_t at = 0; at < raw.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = raw;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      error_of(entry(damaged));
    }
  }
}

TEST(RData, LengthsAreHeldAgainstTheFile) {
  EXPECT_THAT(error_of(word(0xffffffff) + entry(data_frame()).substr(4)),
              HasSubstr("wanted a stream that can hold 4294967295 bytes"));
  EXPECT_THAT(error_of(entry("X\n" + word(2) + word(0) + word(0) + word(0x0d) + word(1u << 30))),
              HasSubstr("as many elements as there is room for, got 1073741824"));
  std::string deep = "X\n" + word(2) + word(0) + word(0);
  for (int i = 0; i < 1000; ++i) deep += word(0x13) + word(1);
  EXPECT_THAT(error_of(entry(deep)), HasSubstr("lists in lists"));
}

}  // namespace
}  // namespace trireme::examples
