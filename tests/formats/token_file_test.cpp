#include "trireme/formats/token_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <numeric>
#include <random>

#include "tests/base/memory_files.h"
#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/formats/token_writer.h"
#include "trireme/formats/tokenizer/bytes.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Ids = std::vector<std::int32_t>;

// Has a vocabulary of any size and nothing else.
class SizedTokenizer final : public Tokenizer {
 public:
  explicit SizedTokenizer(std::int64_t vocabulary) : vocabulary_(vocabulary) {}
  void append(std::string_view, SpecialTokens, Ids&) const override {}
  std::string decode(std::span<const std::int32_t>) const override { return {}; }
  std::int64_t vocabulary() const override { return vocabulary_; }
  std::optional<std::int32_t> end_of_text() const override { return std::nullopt; }
  std::string name() const override { return "sized"; }
  std::string to_json() const override { return "{}"; }

 private:
  std::int64_t vocabulary_;
};

std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

std::string from_hex(std::string_view digits) {
  std::string bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

// Question and answer as bytes, and one document without a prompt.
void write_example(TokenWriter& writer) {
  writer.add({.tokens = Ids{'2', '?', '4', 256}, .prompt_length = 2, .text_bytes = 3});
  writer.add({.tokens = Ids{'!', 256}, .text_bytes = 1});
}

// The worked example of docs/format/tokens.md, made of its parts. Its checksums are those of
// xxhsum -H3, its digest that of sha256sum.
std::string example() {
  return "trtokens" + little_endian(1, 4) + little_endian(2, 4) + little_endian(257, 8) +
         little_endian(6, 8) + little_endian(2, 8) + little_endian(4, 8) + little_endian(16, 8) +
         from_hex("44db160ef62b8e6f59897f101a9b0bf327ce5cb8019ee9eedb5deb9a36e35945") +
         little_endian(0xb69b3397bc8f4f5a, 8) + little_endian(0x69e8b7815942ad85, 8) +
         std::string(16, '\0') + little_endian(0x7827584f65a14320, 8) +
         from_hex("32003f003400000121000001") + std::string(4, '\0') + little_endian(4, 8) +
         little_endian(2, 8) + little_endian(3, 8) + little_endian(6, 8) + little_endian(0, 8) +
         little_endian(1, 8) + "{\"type\":\"bytes\"}";
}

std::string error_in(const std::string& bytes) {
  return error_of<DataError>([&] { TokenFile(bytes, "t"); });
}

TEST(TokenFile, HasTheBytesOfTheWorkedExample) {
  const TemporaryFolder folder;
  TokenWriter writer(folder.path() / "t", *byte_tokenizer());
  write_example(writer);
  writer.commit();
  EXPECT_EQ(read_file(folder.path() / "t"), example());
}

TEST(TokenFile, ReadsTheBytesOfTheWorkedExample) {
  const TemporaryFolder folder;
  const TokenFile file(folder.write("t", example()));
  EXPECT_EQ(file.vocabulary(), 257);
  EXPECT_EQ(file.tokens(), 6);
  EXPECT_EQ(file.documents(), 2);
  EXPECT_EQ(file.text_bytes(), 4);
  EXPECT_EQ(file.token(2), '4');
  std::vector<std::int64_t> all(6);
  file.copy(0, all);
  EXPECT_THAT(all, ElementsAre('2', '?', '4', 256, '!', 256));
  EXPECT_EQ(file.document_start(0), 0);
  EXPECT_EQ(file.document_start(1), 4);
  EXPECT_EQ(file.document_start(2), 6);
  EXPECT_EQ(file.prompt_length(0), 2);
  EXPECT_EQ(file.prompt_length(1), 0);
  EXPECT_EQ(file.text_bytes(0), 3);
  EXPECT_EQ(file.document_of(3), 0);
  EXPECT_EQ(file.document_of(4), 1);
  EXPECT_EQ(file.tokenizer_json(), "{\"type\":\"bytes\"}");
  EXPECT_EQ(file.tokenizer_digest(),
            "44db160ef62b8e6f59897f101a9b0bf327ce5cb8019ee9eedb5deb9a36e35945");
  file.verify();
}

TEST(TokenFile, HoldsAnythingInTwoBytesOrFour) {
  std::mt19937 random(1);
  for (const std::int64_t vocabulary : {1, 65536, 65537, 1 << 30}) {
    const SizedTokenizer tokenizer(vocabulary);
    TokenWriter writer(tokenizer);
    std::vector<std::int64_t> wanted;
    std::int64_t text_bytes = 0;
    for (int d = 0; d < 50; ++d) {
      Ids ids(1 + random() % 40);
      for (auto& id : ids) id = static_cast<std::int32_t>(random() % vocabulary);
      ids.back() = static_cast<std::int32_t>(vocabulary - 1);
      writer.add({ids, d % 2, d});
      text_bytes += d;
      wanted.insert(wanted.end(), ids.begin(), ids.end());
    }
    const TokenFile file = writer.take();
    EXPECT_EQ(file.documents(), 50);
    EXPECT_EQ(file.text_bytes(), text_bytes);
    ASSERT_EQ(file.tokens(), std::ssize(wanted));
    std::vector<std::int64_t> all(wanted.size());
    file.copy(0, all);
    EXPECT_EQ(all, wanted);
    file.verify();
    for (std::int64_t i = 0; i < file.tokens(); ++i) {
      const std::int64_t d = file.document_of(i);
      EXPECT_TRUE(file.document_start(d) <= i && i < file.document_start(d + 1));
    }
  }
}

TEST(TokenFile, IsTheSameInMemoryAndBeyondTheWritersBuffer) {
  const TemporaryFolder folder;
  const auto tokenizer = byte_tokenizer();
  TokenWriter to_file(folder.path() / "t", *tokenizer);
  TokenWriter to_memory(*tokenizer);
  Ids ids(700'001);
  std::iota(ids.begin(), ids.end(), 0);
  for (auto& id : ids) id %= 257;
  for (TokenWriter* writer : {&to_file, &to_memory}) {
    writer->add({.tokens = ids, .text_bytes = 7});
    writer->add({.tokens = ids, .text_bytes = 8});
  }
  to_file.commit();
  const TokenFile file(folder.path() / "t");
  const TokenFile memory = to_memory.take();
  file.verify();
  memory.verify();
  ASSERT_EQ(file.tokens(), memory.tokens());
  EXPECT_EQ(file.token(1'400'001), 700'000 % 257);
  EXPECT_EQ(memory.token(1'400'001), 700'000 % 257);
}

TEST(TokenFile, RefusesEveryTruncationAndEveryAddition) {
  const std::string whole = example();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(error_in(whole.substr(0, size)), HasSubstr("trireme tokenize")) << size;
  }
  EXPECT_THAT(error_in(whole.substr(0, whole.size() - 1)),
              HasSubstr("t: the file is truncated: 80 bytes must be behind the header"));
  EXPECT_THAT(error_in(whole + "x"), HasSubstr("something behind its end"));
}

TEST(TokenFile, NoticesEveryFlippedBit) {
  const std::string whole = example();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      EXPECT_THAT(error_of<DataError>([&] { TokenFile(damaged, "t").verify(); }),
                  HasSubstr("trireme tokenize"))
          << at;
    }
  }
}

TEST(TokenFile, SaysWhatItIsNot) {
  std::string newer = example();
  newer[8] = 2;
  EXPECT_THAT(error_in(newer), HasSubstr("of version 1 are known, this is of version 2"));
  EXPECT_THAT(error_in(std::string(200, 'x')), HasSubstr("it is no token file"));
  EXPECT_THAT(error_of<DataError>([] { TokenFile("/nowhere/t"); }),
              HasSubstr("/nowhere/t: cannot open: No such file"));
  EXPECT_THAT(error_of<DataError>([] { TokenFile("/dev/null"); }), HasSubstr("is no file"));
  const TemporaryFolder folder;
  EXPECT_THAT(error_of<DataError>([&] { TokenFile(folder.write("empty", "")); }),
              HasSubstr("this has 0"));
}

// A damaged token must not index beyond an embedding, even if verify() was not called.
TEST(TokenFile, HandsOutNoTokenOutsideTheVocabulary) {
  std::string damaged = example();
  damaged[131] = 2;  // token 1: 0x023f
  const TokenFile file(damaged, "t");
  EXPECT_EQ(file.token(0), '2');
  EXPECT_THAT(error_of<DataError>([&] { file.token(1); }), HasSubstr("must be below 257"));
}

TEST(TokenFile, NamesWhatIsOutOfRange) {
  const TokenFile file(example(), "t");
  std::vector<std::int64_t> out(3);
  EXPECT_THAT(error_of<UsageError>([&] { file.copy(4, out); }),
              HasSubstr("t: tokens 4 to 6 are wanted of 6"));
  EXPECT_THAT(error_of<UsageError>([&] { file.copy(-1, out); }), HasSubstr("-1 to 1"));
  EXPECT_THAT(error_of<UsageError>([&] { file.prompt_length(2); }), HasSubstr("document 2"));
  EXPECT_THAT(error_of<UsageError>([&] { file.document_start(3); }), HasSubstr("document 2"));
  EXPECT_THAT(error_of<UsageError>([&] { file.document_of(6); }), HasSubstr("token 6"));
}

TEST(TokenWriter, RefusesWhatAReaderCouldNotUse) {
  TokenWriter writer(*byte_tokenizer(), "out");
  const auto refusal = [&](const TokenWriter::Document& document) {
    return error_of<UsageError>([&] { writer.add(document); });
  };
  const Ids one = {1};
  EXPECT_THAT(refusal({}), HasSubstr("out: a document must have tokens"));
  EXPECT_THAT(refusal({one, 2, 0}), HasSubstr("a prompt of 2"));
  EXPECT_THAT(refusal({one, 0, -1}), HasSubstr("-1 bytes"));
  EXPECT_THAT(refusal({Ids{0, 257}}), HasSubstr("from 0 to 256, got 257"));
  EXPECT_THAT(refusal({Ids{-1}}), HasSubstr("got -1"));
  EXPECT_EQ(writer.documents(), 0);
}

TEST(TokenWriter, LeavesAWholeFileOrNoneWhereverThePowerIsCut) {
  test::MemoryFiles files;
  const auto tokenizer = byte_tokenizer();
  int cuts = 0;
  for (bool cut = true; cut; ++cuts) {
    ASSERT_LT(cuts, 50);
    files.clear();
    files.cut_power_at(cuts);
    try {
      TokenWriter writer("t", *tokenizer, files);
      write_example(writer);
      writer.commit();
    } catch (const DataError&) {
    }
    cut = files.clear_fault();
    for (const test::Kept kept : {test::Kept::kNamesAndHalfOfContents, test::Kept::kNothing}) {
      files.restore_power(kept);
      if (files.kind_of("t") == FileKind::kNone) continue;
      EXPECT_EQ(read_file("t", files), example());
    }
  }
  EXPECT_GT(cuts, 5);
  EXPECT_EQ(read_file("t", files), example());
}

TEST(TokenWriter, SaysThatTheDiskIsFull) {
  test::MemoryFiles files;
  files.limit_space(200);
  EXPECT_THAT(error_of<DataError>([&] {
                TokenWriter writer("t", *byte_tokenizer(), files);
                write_example(writer);
                writer.commit();
              }),
              HasSubstr("t: cannot write: No space left"));
  EXPECT_EQ(files.kind_of("t"), FileKind::kNone);
}

}  // namespace
}  // namespace trireme
