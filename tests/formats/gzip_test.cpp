#include "trireme/formats/gzip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/formats/deflate.h"
#include "tests/formats/error_of.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::HasSubstr;

std::string inflated(std::string_view compressed, std::size_t piece = 1000) {
  const auto source = maybe_inflate(bytes_of(compressed), "a.gz");
  std::string out, buffer(piece, '\0');
  while (const std::size_t n = source->read(buffer)) out.append(buffer, 0, n);
  return out;
}

std::string sample(std::size_t bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes; ++i) out += static_cast<char>('a' + i * i % 23);
  return out;
}

// "hi\n" as `printf 'hi\n' | gzip -n` writes it.
TEST(Gzip, ReadsWhatTheGzipProgramWrote) {
  const std::string bytes(
      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xc8\xe4\x02\x00\x7a\x7a\x6f\xed\x03\x00\x00"
      "\x00",
      23);
  EXPECT_EQ(inflated(bytes), "hi\n");
}

TEST(Gzip, GivesTheSameBytesInPiecesOfAnySize) {
  const std::string bytes = sample(300'000);
  const std::string compressed = gzipped(bytes);
  for (const std::size_t piece : {1u, 7u, 65536u, 1u << 20})
    EXPECT_EQ(inflated(compressed, piece), bytes);
}

TEST(Gzip, JoinsMembers) {
  EXPECT_EQ(inflated(gzipped("one ") + gzipped("") + gzipped("two")), "one two");
}

TEST(Gzip, LeavesOtherBytesAsTheyAre) {
  EXPECT_EQ(inflated("plain"), "plain");
  EXPECT_EQ(inflated("p"), "p");
  EXPECT_EQ(inflated(""), "");
}

TEST(Gzip, CallsEveryTruncationTruncated) {
  const std::string compressed = gzipped(sample(5000));
  for (std::size_t n = 2; n < compressed.size(); ++n) {
    EXPECT_THAT(error_of<DataError>([&] { inflated(compressed.substr(0, n)); }),
                HasSubstr("a.gz: truncated"));
  }
}

TEST(Gzip, NoticesAWrongChecksum) {
  std::string compressed = gzipped(sample(5000));
  compressed[compressed.size() - 6] ^= 1;
  EXPECT_THAT(error_of<DataError>([&] { inflated(compressed); }), HasSubstr("damaged gzip data"));
}

TEST(Gzip, NoticesBytesBehindTheLastMember) {
  EXPECT_THAT(error_of<DataError>([&] { inflated(gzipped("x") + "garbage"); }),
              HasSubstr("damaged gzip data"));
}

TEST(Gzip, NeverHoldsMoreThanItSaysAtMost) {
  const std::string bytes(1'000'000, 'x');
  const std::string compressed = gzipped(bytes);
  const auto source = maybe_inflate(bytes_of(compressed), "a.gz");
  std::string buffer(100'000, '\0');
  std::size_t left = bytes.size();
  while (left > 0) {
    EXPECT_GE(source->at_most(), static_cast<std::int64_t>(left));
    left -= source->read(buffer);
  }
}

}  // namespace
}  // namespace trireme
