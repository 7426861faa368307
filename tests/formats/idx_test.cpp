#include "trireme/formats/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/formats/deflate.h"
#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string header(int type, std::initializer_list<std::uint32_t> shape) {
  std::string bytes = {0, 0, static_cast<char>(type), static_cast<char>(shape.size())};
  for (const std::uint32_t d : shape) {
    for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(d >> shift);
  }
  return bytes;
}

IdxArray parse(std::string_view bytes) {
  return read_idx(*bytes_of(bytes), "x.idx");
}

template <class T>
T element(const IdxArray& array, std::size_t i) {
  T value;
  std::memcpy(&value, array.bytes.data() + i * sizeof(T), sizeof(T));
  return value;
}

TEST(Idx, ReadsShapeAndBytes) {
  const IdxArray array = parse(header(0x08, {2, 3}) + "abcdef");
  EXPECT_EQ(array.type, IdxType::kU8);
  EXPECT_THAT(array.shape, ElementsAre(2, 3));
  EXPECT_EQ(array.bytes, "abcdef");
}

// Big-endian values by hand: 258, -2, 1.5 and -2.0 (IEEE 754).
TEST(Idx, ReadsEveryTypeInItsByteOrder) {
  EXPECT_EQ(element<std::int8_t>(parse(header(0x09, {1}) + "\xfe"), 0), -2);
  EXPECT_EQ(element<std::int16_t>(parse(header(0x0B, {1}) + "\x01\x02"), 0), 258);
  EXPECT_EQ(element<std::int32_t>(parse(header(0x0C, {1}) + "\xff\xff\xff\xfe"), 0), -2);
  EXPECT_EQ(element<float>(parse(header(0x0D, {1}) + std::string("\x3f\xc0\0\0", 4)), 0), 1.5f);
  EXPECT_EQ(element<double>(parse(header(0x0E, {1}) + std::string("\xc0\0\0\0\0\0\0\0", 8)), 0),
            -2.0);
}

TEST(Idx, ReadsAFileWithAndWithoutGzip) {
  const TemporaryFolder folder;
  const std::string bytes = header(0x08, {3}) + "xyz";
  EXPECT_EQ(read_idx(folder.write("plain", bytes)).bytes, "xyz");
  EXPECT_EQ(read_idx(folder.write("packed", gzipped(bytes))).bytes, "xyz");
}

TEST(Idx, SaysWhatAWrongMagicNumberWas) {
  EXPECT_THAT(error_of<DataError>([] { parse("PNG!"); }),
              testing::AllOf(HasSubstr("x.idx: not an IDX file"), HasSubstr("got 50 4e 47 21")));
  EXPECT_THAT(error_of<DataError>([] { parse(header(0x0A, {1}) + "x"); }), HasSubstr("not an IDX"));
}

TEST(Idx, CallsEveryTruncationTruncated) {
  const std::string bytes = header(0x08, {2, 3}) + "abcdef";
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_THAT(error_of<DataError>([&] { parse(bytes.substr(0, n)); }),
                HasSubstr("x.idx: truncated"));
  }
}

TEST(Idx, RefusesBytesBehindTheData) {
  EXPECT_THAT(error_of<DataError>([] { parse(header(0x08, {2}) + "abc"); }),
              HasSubstr("must end after the 2 bytes"));
}

TEST(Idx, RefusesASizeThatTheFileCannotHoldBeforeItAllocates) {
  const std::uint32_t most = 0xffffffff;
  EXPECT_THAT(error_of<DataError>([&] { parse(header(0x08, {most}) + "abc"); }),
              HasSubstr("at most 3 bytes"));
  EXPECT_THAT(error_of<DataError>([&] {
                parse(header(0x0E, {most, most, most}) + "abc");
              }),
              HasSubstr("more than 2^63"));
  const TemporaryFolder folder;
  const auto packed = folder.write("a.gz", gzipped(header(0x08, {most}) + "abc"));
  EXPECT_THAT(error_of<DataError>([&] { read_idx(packed); }), HasSubstr("truncated"));
}

// Found by fuzzing: the product of the other dimensions is beyond 64 bits.
TEST(Idx, HoldsNothingWhereOneDimensionIsZero) {
  const std::uint32_t most = 0xffffffff;
  const IdxArray array = parse(header(0x0E, {most, most, most, 0}));
  EXPECT_EQ(array.count(), 0);
  EXPECT_TRUE(array.bytes.empty());
}

TEST(Idx, NamesAMissingFile) {
  EXPECT_THAT(error_of<DataError>([] { read_idx("/nowhere/x"); }),
              HasSubstr("/nowhere/x: cannot open: No such file"));
}

}  // namespace
}  // namespace trireme
