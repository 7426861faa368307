#include "trireme/formats/tokenize_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tests/formats/deflate.h"
#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/bytes.h"
#include "trireme/formats/tokenizer/characters.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kEnd[] = "<|endoftext|>";

// Decodes the documents by the tokenizer that the file carries.
std::vector<std::string> documents_of(const TokenFile& file) {
  const auto tokenizer = tokenizer_from_json(file.tokenizer_json());
  std::vector<std::string> texts;
  for (std::int64_t d = 0; d < file.documents(); ++d) {
    std::vector<std::int32_t> ids;
    for (auto i = file.document_start(d); i < file.document_start(d + 1); ++i) {
      ids.push_back(file.token(i));
    }
    texts.push_back(tokenizer->decode(ids));
    EXPECT_TRUE(texts.back().ends_with(kEnd));
    texts.back().resize(texts.back().size() - std::string(kEnd).size());
  }
  return texts;
}

TokenizeOptions by(DocumentUnit unit) {
  TokenizeOptions options;
  options.documents.unit = unit;
  return options;
}

class TokenizeText : public testing::Test {
 protected:
  std::vector<std::string> tokenized(std::string_view text, const TokenizeOptions& options,
                                     const std::string& tokenizer = "characters") {
    return documents_of(tokenize_text({source("text", text)}, tokenizer, options).training);
  }

  std::string refusal(std::string_view text, const TokenizeOptions& options) {
    return error_of<DataError>([&] { tokenized(text, options); });
  }

  TextSource source(const char* name, std::string_view text) {
    return text_file(folder_.write(name, text));
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(TokenizeText, NumbersCharactersByCodePoint) {
  const TokenFile file = tokenize_text({source("text",
                                               "caf\xC3\xA9 \xE2\x82\xAC"
                                               "a")},
                                       "characters")
                             .training;
  // ' ' 'a' 'c' 'f' U+00E9 U+20AC, and the end.
  EXPECT_EQ(file.vocabulary(), 7);
  std::vector<std::int64_t> ids(8);
  ASSERT_EQ(file.tokens(), 8);
  file.copy(0, ids);
  EXPECT_THAT(ids, ElementsAre(2, 1, 3, 4, 0, 5, 1, 6));
  EXPECT_EQ(file.text_bytes(), 10);
}

TEST_F(TokenizeText, TakesEachFileAsADocument) {
  const auto text = tokenize_text({source("a", "one\n"), source("b", "two\nlines\n")}, "bytes");
  EXPECT_THAT(documents_of(text.training), ElementsAre("one\n", "two\nlines\n"));
  EXPECT_EQ(text.training.text_bytes(1), 10);
  EXPECT_FALSE(text.validation);
}

TEST_F(TokenizeText, TakesEachLineAsADocument) {
  EXPECT_THAT(tokenized("one\r\n\ntwo\nthree", by(DocumentUnit::kLine)),
              ElementsAre("one", "two", "three"));
  // Longer than what is read at once.
  const std::string longer(600'000, 'x');
  EXPECT_THAT(tokenized("a\n" + longer + "\nb\n", by(DocumentUnit::kLine), "bytes"),
              ElementsAre("a", longer, "b"));
}

TEST_F(TokenizeText, TakesAFieldOfEachJsonObject) {
  TokenizeOptions options = by(DocumentUnit::kJsonLine);
  options.documents.prompt_field = "ask";
  const TokenFile file =
      tokenize_text({source("text",
                            "{\"ask\": \"2+2=\", \"text\": \"4\\u00e9\"}\n\n"
                            "{\"text\": \"!\", \"ask\": \"\", \"more\": [1]}\n")},
                    "bytes", options)
          .training;
  EXPECT_THAT(documents_of(file), ElementsAre("2+2=4\xC3\xA9", "!"));
  EXPECT_EQ(file.prompt_length(0), 4);
  EXPECT_EQ(file.prompt_length(1), 0);
  EXPECT_EQ(file.text_bytes(0), 7);
}

TEST_F(TokenizeText, ReadsCompressedFiles) {
  EXPECT_THAT(tokenized(gzipped("squeezed"), {}), ElementsAre("squeezed"));
}

TEST_F(TokenizeText, NamesTheLineThatIsNoSuchObject) {
  const TokenizeOptions options = by(DocumentUnit::kJsonLine);
  EXPECT_THAT(refusal("{\"text\":\"a\"}\n{\"b\":1,\"c\":2}\n", options),
              HasSubstr("text:2: must have the field \"text\", has \"b\", \"c\""));
  EXPECT_THAT(refusal("{\"text\":1}", options),
              HasSubstr("text:1: the field \"text\" must be a string, is a JSON number"));
  EXPECT_THAT(refusal("[1]", options), HasSubstr("text:1: must be a JSON object with the field"));
  EXPECT_THAT(refusal("{\"text\":", options), HasSubstr("text:1: must be a JSON object: "));
}

TEST_F(TokenizeText, RefusesOrReplacesWhatIsNotUtf8) {
  EXPECT_THAT(refusal("fine\nna\xEFve", {}),
              HasSubstr("text must be UTF-8, got the byte 0xEF at byte 8 (line 2); convert it"));
  EXPECT_THAT(refusal("fine\nna\xEFve", by(DocumentUnit::kLine)),
              HasSubstr("text:2: text must be UTF-8, got the byte 0xEF at byte 3"));
  TokenizeOptions options;
  options.documents.not_utf8 = NotUtf8::kReplace;
  EXPECT_THAT(tokenized("na\xEFve", options), ElementsAre("na\xEF\xBF\xBDve"));
}

TEST_F(TokenizeText, NamesTheCharacterThatATokenizerDoesNotKnow) {
  const auto tokenizer = character_tokenizer({'a', 'b', '\n'});
  EXPECT_THAT(
      error_of<DataError>([&] { tokenize_text({source("text", "ab\nb\xC3\xA9")}, *tokenizer); }),
      HasSubstr("text: characters: '\xC3\xA9' (U+00E9) at byte 5 (line 2) is none of the 3 "
                "characters"));
}

TEST_F(TokenizeText, RefusesATextThatIsEmpty) {
  EXPECT_THAT(refusal("", {}), HasSubstr("all documents are empty"));
  EXPECT_THAT(refusal("\n\n", by(DocumentUnit::kLine)), HasSubstr("all documents are empty"));
}

TEST_F(TokenizeText, HoldsOutDocumentsSpreadEvenly) {
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += std::to_string(i) + "\n";
  TokenizeOptions options = by(DocumentUnit::kLine);
  options.holdout = 0.04;
  const auto text = tokenize_text({source("text", lines)}, "characters", options);
  EXPECT_EQ(text.training.documents(), 96);
  EXPECT_THAT(documents_of(*text.validation), ElementsAre("24", "49", "74", "99"));
  EXPECT_EQ(text.validation->vocabulary(), 11);
}

TEST_F(TokenizeText, HoldsOutTheLastPartOfOneDocument) {
  TokenizeOptions options;
  options.holdout = 0.25;
  const std::string whole = "one two\nthree four\nfive six\nseven\n";
  const auto text = tokenize_text({source("text", whole)}, "characters", options);
  EXPECT_THAT(documents_of(text.training), ElementsAre("one two\nthree four\n"));
  EXPECT_THAT(documents_of(*text.validation), ElementsAre("five six\nseven\n"));
  EXPECT_EQ(text.training.text_bytes() + text.validation->text_bytes(), std::ssize(whole));
}

TEST_F(TokenizeText, CutsNoCharacter) {
  std::string whole;
  for (int i = 0; i < 50; ++i) whole += "\xE2\x82\xAC";
  for (int percent = 1; percent < 90; ++percent) {
    TokenizeOptions options;
    options.holdout = percent / 100.0;
    const auto text = tokenize_text({source("text", whole)}, "characters", options);
    const auto [first, last] =
        std::pair(documents_of(text.training), documents_of(*text.validation));
    EXPECT_EQ(std::accumulate(first.begin(), first.end(), std::string()) +
                  std::accumulate(last.begin(), last.end(), std::string()),
              whole);
  }
}

TEST_F(TokenizeText, MakesTheSameTokenizerOfItsJson) {
  const std::set<char32_t> characters = {'\0', '\n', '"', '\\', 0xE9, 0x1F600};
  for (const auto& tokenizer : {character_tokenizer(characters), byte_tokenizer()}) {
    const auto again = tokenizer_from_json(tokenizer->to_json());
    EXPECT_EQ(again->to_json(), tokenizer->to_json());
    const std::string text("\0\n\"\\\xC3\xA9\xF0\x9F\x98\x80", 10);
    EXPECT_EQ(again->encode(text), tokenizer->encode(text));
    EXPECT_EQ(again->decode(again->encode(text)), text);
    EXPECT_EQ(again->end_of_text(), tokenizer->end_of_text());
  }
  EXPECT_THAT(error_of<DataError>([] { tokenizer_from_json("{\"type\":\"words\"}", "t.json"); }),
              HasSubstr("t.json: "));
  EXPECT_THAT(error_of<DataError>([] { tokenizer_from_json("{", "t.json"); }),
              HasSubstr("t.json: not a tokenizer: it is not JSON"));
}

}  // namespace
}  // namespace trireme
