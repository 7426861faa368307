// Real vocabularies, held against the ids of other implementations: tests/tokenizers/golden.mjs.

#include <gtest/gtest.h>

#include <atomic>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/formats/tokenizer/tokenizer.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {
namespace {

using Ids = std::vector<std::int32_t>;

std::unique_ptr<Tokenizer> load(const std::string& name) {
  const std::string folder = TRIREME_SOURCES "/.cache/data/";
  try {
    return read_tokenizer(folder +
                          (name == "tiktoken" ? "gpt2-tokenizer/gpt2" : "test-tokenizers/" + name) +
                          ".json");
  } catch (const DataError& error) {
    throw DataError(std::string(error.what()) +
                    "; run scripts/fetch-data.sh gpt2-tokenizer test-tokenizers");
  }
}

// A large vocabulary takes a second to load: once for all tests.
const Tokenizer& tokenizer(const std::string& name) {
  static std::map<std::string, std::unique_ptr<Tokenizer>> loaded;
  auto& found = loaded[name];
  if (!found) found = load(name);
  return *found;
}

std::string golden_file(const std::string& name) {
  return read_file(TRIREME_SOURCES "/tests/tokenizers/data/" + name);
}

std::vector<std::string> strings() {
  return nlohmann::json::parse(golden_file("strings.json"));
}

std::vector<Ids> golden_ids(const std::string& name) {
  std::istringstream lines(golden_file(name + ".txt"));
  std::vector<Ids> all;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    all.emplace_back(std::istream_iterator<std::int32_t>(words),
                     std::istream_iterator<std::int32_t>());
  }
  return all;
}

struct Case {
  const char* tokenizer;
  const char* golden;
  int begin;  // of the ids: tokens of the frame
  int end_of_text;
};

class Golden : public testing::TestWithParam<Case> {};

TEST_P(Golden, IdsAreThoseOfOtherImplementations) {
  const Tokenizer& ours = tokenizer(GetParam().tokenizer);
  const std::vector<std::string> texts = strings();
  const std::vector<Ids> wanted = golden_ids(GetParam().golden);
  ASSERT_EQ(texts.size(), wanted.size());
  ASSERT_GE(texts.size(), 1500u);
  std::set<unsigned char> bytes;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(ours.encode(texts[i]), wanted[i]) << i << ": " << nlohmann::json(texts[i]).dump();
    bytes.insert(texts[i].begin(), texts[i].end());
  }
  EXPECT_EQ(bytes.size(), 243u);  // all but C0, C1 and F5 to FF
  EXPECT_EQ(ours.end_of_text(), GetParam().end_of_text);
}

TEST_P(Golden, TextsComeBack) {
  const Tokenizer& ours = tokenizer(GetParam().tokenizer);
  const bool composes = std::string_view(GetParam().tokenizer) == "qwen2";
  for (const std::string& text : strings()) {
    for (const SpecialTokens special : {SpecialTokens::kRecognized, SpecialTokens::kAsText}) {
      const Ids ids = ours.encode(text, special);
      ASSERT_EQ(Ids(ids.begin(), ids.begin() + GetParam().begin), ours.frame().before);
      const std::string back = ours.decode(std::span(ids).subspan(GetParam().begin));
      if (!composes) {
        // Llama 2 puts a blank before a text, and one behind each special token.
        const bool has_blanks = std::string_view(GetParam().tokenizer) == "llama2";
        if (has_blanks && special == SpecialTokens::kRecognized) continue;
        if (has_blanks && text.find("\u2581") != std::string::npos) continue;  // a blank
        ASSERT_EQ(back, text);
      } else {
        // Composing once more changes nothing.
        ASSERT_EQ(ours.encode(back, special), ids);
      }
      for (const std::int32_t id : ids) ASSERT_TRUE(id >= 0 && id < ours.vocabulary());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden,
                         testing::Values(Case{"tiktoken", "gpt2", 0, 50256},
                                         Case{"gpt2", "gpt2", 0, 50256},
                                         Case{"llama2", "llama2", 1, 2},
                                         Case{"llama3", "llama3", 1, 128001},
                                         Case{"qwen2", "qwen2", 0, 50256}),
                         [](const auto& test) { return test.param.tokenizer; });

// Texts in which nothing is UTF-8 come back from tokens that are bytes.
TEST(RealTokenizers, TakeAnyBytes) {
  const Tokenizer& ours = tokenizer("tiktoken");
  std::string text;
  for (int a = 0; a < 256; ++a) {
    for (const int b : {0, 0x20, 0x41, 0x80, 0xBF, 0xC3, 0xE2, 0xFF}) {
      text += static_cast<char>(a);
      text += static_cast<char>(b);
    }
  }
  EXPECT_EQ(ours.decode(ours.encode(text)), text);
}

// Random bytes, mostly UTF-8: characters of every length among bytes of every value.
std::string random_text(std::mt19937& random) {
  std::string text;
  for (unsigned n = random() % 40; n > 0; --n) {
    switch (random() % 6) {
      case 0:
        text += static_cast<char>(random() % 256);
        break;
      case 1:
        append_utf8(0x80 + random() % 0x780, text);
        break;
      case 2:
        append_utf8(0x1000 + random() % 0xC000, text);
        break;
      case 3:
        append_utf8(0x10000 + random() % 0x100000, text);
        break;
      default:
        text += static_cast<char>(' ' + random() % 95);
    }
  }
  return text;
}

TEST(RealTokenizers, GiveRandomTextsBack) {
  std::mt19937 random(17);
  for (int i = 0; i < 1000; ++i) {
    const std::string text = random_text(random);
    for (const char* name : {"tiktoken", "gpt2", "llama3"}) {
      std::vector<std::int32_t> ids;
      tokenizer(name).append(text, SpecialTokens::kAsText, ids);
      ASSERT_EQ(tokenizer(name).decode(ids), text) << name;
      ASSERT_LE(ids.size(), text.size());
    }
    const std::string clean = replace_not_utf8(text);
    Ids ids = tokenizer("llama2").encode(clean, SpecialTokens::kAsText);
    ids.erase(ids.begin());
    ASSERT_EQ(tokenizer("llama2").decode(ids), clean);
  }
}

TEST(RealTokenizers, ServeThreadsAtTheSameTime) {
  const std::vector<std::string> texts = strings();
  const std::vector<Ids> wanted = golden_ids("gpt2");
  const Tokenizer& ours = tokenizer("tiktoken");
  std::vector<std::jthread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < texts.size(); ++i) {
        if (ours.encode(texts[i]) != wanted[i]) ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST(RealTokenizers, AreMadeAgainFromTheirJson) {
  for (const char* name : {"tiktoken", "llama2"}) {
    const Tokenizer& ours = tokenizer(name);
    const auto again = tokenizer_from_json(ours.to_json());
    EXPECT_TRUE(again->to_json() == ours.to_json());
    for (const std::string& text : strings()) ASSERT_EQ(again->encode(text), ours.encode(text));
  }
}

TEST(RealTokenizers, HaveTheVocabulariesOfTheirPapers) {
  EXPECT_EQ(tokenizer("tiktoken").vocabulary(), 50257);
  EXPECT_EQ(tokenizer("gpt2").vocabulary(), 50257);
  EXPECT_EQ(tokenizer("llama2").vocabulary(), 32000);
  EXPECT_EQ(tokenizer("llama3").vocabulary(), 128256);
}

}  // namespace
}  // namespace trireme
