// Components of Hugging Face's tokenizer.json, by the examples of its documentation.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/formats/error_of.h"
#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/added_tokens.h"
#include "trireme/formats/tokenizer/normalizer.h"
#include "trireme/formats/tokenizer/pre_tokenizer.h"
#include "trireme/formats/tokenizer/token_decoder.h"
#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> pieces(const json& component, std::string_view text) {
  std::vector<std::string> found;
  pre_tokenizer_of(component)->split({text, true},
                                     [&](TextPiece piece) { found.emplace_back(piece.text); });
  return found;
}

json split(const char* behavior, bool invert = false) {
  return {{"type", "Split"},
          {"pattern", {{"String", "-"}}},
          {"behavior", behavior},
          {"invert", invert}};
}

TEST(PreTokenizer, SplitsAsDocumented) {
  const char* text = "the-final--countdown";
  EXPECT_THAT(pieces(split("Removed"), text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(pieces(split("Isolated"), text),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(pieces(split("MergedWithPrevious"), text),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(pieces(split("MergedWithNext"), text),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(pieces(split("Contiguous"), text),
              ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(pieces(split("Removed", true), text), ElementsAre("-", "-", "-"));
}

TEST(PreTokenizer, MetaspacePrependsWhereItShould) {
  const auto metaspace = [](const char* scheme, bool split) {
    return json{
        {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", split}};
  };
  EXPECT_THAT(pieces(metaspace("always", true), "Hey my friend"),
              ElementsAre("▁Hey", "▁my", "▁friend"));
  EXPECT_THAT(pieces(metaspace("never", true), "Hey  you"), ElementsAre("Hey", "▁", "▁you"));
  EXPECT_THAT(pieces(metaspace("first", false), "Hey you"), ElementsAre("▁Hey▁you"));
  std::vector<std::string> later;
  pre_tokenizer_of(metaspace("first", true))->split({"Hey", false}, [&](TextPiece piece) {
    later.emplace_back(piece.text);
  });
  EXPECT_THAT(later, ElementsAre("Hey"));
  EXPECT_THAT(
      pieces({{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}}, "a b"),
      ElementsAre("a", "_b"));
}

TEST(PreTokenizer, ByteLevelMayAddABlank) {
  EXPECT_THAT(pieces({{"type", "ByteLevel"}, {"add_prefix_space", true}}, "Hello my friend"),
              ElementsAre(" Hello", " my", " friend"));
  EXPECT_THAT(
      pieces({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}, "a b"),
      ElementsAre("a b"));
}

// From table 2 of UAX 15 and the corrigenda of composition exclusions.
TEST(Normalizer, ComposesAsUnicodeDoes) {
  const auto nfc = normalizer_of({{"type", "NFC"}});
  EXPECT_EQ(nfc->apply("e\u0301 \u212B \u1100\u1161\u11a8"), "\u00e9 \u00c5 \uac01");
  EXPECT_EQ(nfc->apply("\u0958 q\u0307\u0323"), "\u0915\u093c q\u0323\u0307");
  EXPECT_EQ(nfc->apply("\U0001d15e"), "\U0001d157\U0001d165");
  EXPECT_EQ(nfc->apply("plain"), "plain");
  std::string many;
  for (int i = 0; i < 100; ++i) many += "\u0344";
  EXPECT_EQ(nfc->apply(many).size(), 400u);  // grows: U+0308 U+0301 each
}

TEST(Normalizer, PrependsAndReplaces) {
  const auto llama =
      normalizer_of({{"type", "Sequence"},
                     {"normalizers",
                      {{{"type", "Prepend"}, {"prepend", "▁"}},
                       {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}});
  EXPECT_EQ(llama->apply("a  b"), "▁a▁▁b");
  EXPECT_EQ(llama->apply(""), "");
  const auto regex =
      normalizer_of({{"type", "Replace"}, {"pattern", {{"Regex", "[0-9]+"}}}, {"content", "#"}});
  EXPECT_EQ(regex->apply("a12b3"), "a#b#");
}

std::string decoded(const json& component, std::vector<std::string> tokens) {
  token_decoder_of(component)->apply(tokens);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

TEST(TokenDecoder, UndoesWhatTokensAreWrittenIn) {
  EXPECT_EQ(decoded({{"type", "ByteLevel"}}, {"Hello", "Ġmy", "Ċ", "Ã©"}), "Hello my\n\u00e9");
  EXPECT_EQ(decoded({{"type", "ByteLevel"}}, {"<tool \u4e2d>"}), "<tool \u4e2d>");
  EXPECT_EQ(decoded({{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}},
                    {"▁Hey", "▁you"}),
            "Hey you");
  EXPECT_EQ(decoded({{"type", "ByteFallback"}}, {"<0xC3>", "<0xA9>", "<0xZZ>", "x"}),
            "\u00e9<0xZZ>x");
  EXPECT_EQ(decoded({{"type", "Strip"}, {"content", "_"}, {"start", 1}, {"stop", 2}}, {"__a___"}),
            "_a_");
  EXPECT_EQ(decoded(nullptr, {"a", "b"}), "a b");
}

TEST(AddedTokens, AreFoundAsTheirFieldsSay) {
  const AddedTokens tokens({{.content = "<a>", .id = 1, .special = true},
                            {.content = "<a>b", .id = 2},
                            {.content = "word", .id = 3, .single_word = true},
                            {.content = "<l>", .id = 4, .lstrip = true},
                            {.content = "<r>", .id = 5, .rstrip = true}});
  const auto ids = [&](std::string_view text, SpecialTokens special = SpecialTokens::kRecognized) {
    std::string found;
    for (const TextSegment& segment : tokens.split(text, special)) {
      found +=
          segment.id
              ? std::to_string(*segment.id)
              : "[" + std::string(text.substr(segment.begin, segment.end - segment.begin)) + "]";
    }
    return found;
  };
  EXPECT_EQ(ids("x<a>y<a>b"), "[x]1[y]2");
  EXPECT_EQ(ids("x<a>y<a>b", SpecialTokens::kAsText), "[x<a>y]2");
  EXPECT_EQ(ids("word words sword a word"), "3[ words sword a ]3");
  EXPECT_EQ(ids("a \u00a0<l> b"), "[a]4[ b]");
  EXPECT_EQ(ids("a <r> \n<r>"), "[a ]55");
  EXPECT_EQ(ids(""), "");
}

// A tokenizer.json of the letters a and b, with one member replaced.
std::string refusal(const char* member, const json& value) {
  json file = {
      {"added_tokens", json::array()},
      {"model",
       {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", {"a b"}}}}};
  file[json::json_pointer(member)] = value;
  return error_of<DataError>([&] { tokenizer_from_json(file.dump(), "t.json"); });
}

TEST(HuggingFaceTokenizer, NamesTheComponentThatIsNotKnown) {
  EXPECT_THAT(
      refusal("/model/type", "Unigram"),
      HasSubstr("t.json: not a tokenizer that is known: the model \"Unigram\" is not known; "
                "known are BPE"));
  EXPECT_THAT(refusal("/normalizer", {{"type", "Lowercase"}}),
              HasSubstr("normalizer \"Lowercase\""));
  EXPECT_THAT(refusal("/pre_tokenizer", {{"type", "Digits"}}),
              HasSubstr("pre_tokenizer \"Digits\""));
  EXPECT_THAT(refusal("/decoder", {{"type", "WordPiece"}}), HasSubstr("decoder \"WordPiece\""));
  EXPECT_THAT(refusal("/post_processor", {{"type", "RobertaProcessing"}}),
              HasSubstr("post_processor \"RobertaProcessing\""));
  EXPECT_THAT(refusal("/pre_tokenizer", split("Sideways")), HasSubstr("\"Sideways\" is not known"));
  EXPECT_THAT(refusal("/model/dropout", 0.1), HasSubstr("dropout must be off, is"));
  EXPECT_THAT(refusal("/model/end_of_word_suffix", "</w>"), HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(refusal("/truncation", {{"max_length", 8}}), HasSubstr("truncation must be null"));
  EXPECT_THAT(
      refusal("/pre_tokenizer", {{"type", "Sequence"},
                                 {"pretokenizers", {{{"type", "ByteLevel"}}, split("Isolated")}}}),
      HasSubstr("\"ByteLevel\" must be the last"));
}

TEST(HuggingFaceTokenizer, RefusesATableThatContradictsItself) {
  EXPECT_THAT(refusal("/model/merges", {"a c"}), HasSubstr("merge 0 needs the token \"c\""));
  EXPECT_THAT(refusal("/model/merges", {"b a"}), HasSubstr("needs the token \"ba\""));
  EXPECT_THAT(refusal("/model/merges", {"a b c"}), HasSubstr("must be two tokens"));
  EXPECT_THAT(refusal("/model/vocab", {{"a", -1}}), HasSubstr("must be from 0 to"));
  EXPECT_THAT(refusal("/model/vocab", {{"a", 1.5}}), HasSubstr("must be from 0 to"));
  EXPECT_THAT(refusal("/model", json::object()), HasSubstr("t.json: not a tokenizer: "));
}

TEST(HuggingFaceTokenizer, TakesMergesAsTextsAndAsPairs) {
  for (const json& merges : {json::array({"a b"}), json::array({json::array({"a", "b"})})}) {
    const json file = {{"model", {{"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", merges}}}};
    const auto tokenizer = tokenizer_from_json(file.dump());
    EXPECT_THAT(tokenizer->encode("abba"), ElementsAre(2, 1, 0));
    EXPECT_EQ(tokenizer->name(), "bpe");
    EXPECT_FALSE(tokenizer->end_of_text());
    EXPECT_THAT(error_of<UsageError>([&] { tokenizer->decode(std::vector<std::int32_t>{3}); }),
                HasSubstr("from 0 to 2, got 3"));
  }
}

TEST(HuggingFaceTokenizer, PutsTheTemplateAroundAText) {
  const json file = {{"added_tokens",
                      {{{"id", 2}, {"content", "<s>"}, {"special", true}},
                       {{"id", 3}, {"content", "</s>"}, {"special", true}}}},
                     {"post_processor",
                      {{"type", "TemplateProcessing"},
                       {"single",
                        {{{"SpecialToken", {{"id", "<s>"}}}},
                         {{"Sequence", {{"id", "A"}}}},
                         {{"SpecialToken", {{"id", "</s>"}}}}}},
                       {"special_tokens", {{"<s>", {{"ids", {2}}}}, {"</s>", {{"ids", {3}}}}}}}},
                     {"model", {{"vocab", {{"a", 0}, {"b", 1}}}, {"merges", json::array()}}}};
  const auto tokenizer = tokenizer_from_json(file.dump());
  EXPECT_THAT(tokenizer->encode("ab"), ElementsAre(2, 0, 1, 3));
  EXPECT_EQ(tokenizer->end_of_text(), 3);
  EXPECT_EQ(tokenizer->vocabulary(), 4);
}

}  // namespace
}  // namespace trireme
