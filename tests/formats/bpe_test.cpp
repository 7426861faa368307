#include "trireme/formats/tokenizer/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <algorithm>
#include <map>
#include <random>

#include "tests/formats/error_of.h"
#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/independent_parts.h"
#include "trireme/formats/tokenizer/piece_cache.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Ids = std::vector<std::int32_t>;

// Applies the merges as the paper says: again and again the one of lowest rank, at its leftmost
// place.
Ids slow_bpe(Ids symbols, const std::vector<Merge>& merges) {
  std::map<std::pair<int, int>, Merge> table;
  for (const Merge& merge : merges) table[{merge.left, merge.right}] = merge;
  while (true) {
    const Merge* best = nullptr;
    std::size_t place = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = table.find({symbols[i], symbols[i + 1]});
      if (found == table.end() || (best != nullptr && found->second.rank >= best->rank)) continue;
      best = &found->second;
      place = i;
    }
    if (best == nullptr) return symbols;
    symbols[place] = best->result;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

// A vocabulary of the letters a to d, with merges of what there is at random.
BpeTables random_tables(std::mt19937& random) {
  BpeTables tables;
  std::vector<std::string> tokens = {"a", "b", "c", "d"};
  for (int rank = 0; rank < 40; ++rank) {
    const auto left = static_cast<std::int32_t>(random() % tokens.size());
    const auto right = static_cast<std::int32_t>(random() % tokens.size());
    const std::string result =
        tokens[static_cast<std::size_t>(left)] + tokens[static_cast<std::size_t>(right)];
    if (std::ranges::count(tokens, result) > 0) continue;
    tokens.push_back(result);
    tables.merges.push_back({left, right, rank, static_cast<std::int32_t>(tokens.size() - 1)});
  }
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    tables.ids[tokens[id]] = static_cast<std::int32_t>(id);
  }
  return tables;
}

std::string random_word(std::mt19937& random, std::size_t longest) {
  std::string word(random() % longest, 'a');
  for (char& c : word) c = static_cast<char>('a' + random() % 4);
  return word;
}

TEST(Bpe, MergesAsThePaperDoes) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const BpeTables tables = random_tables(random);
    const Bpe bpe(tables);
    for (int i = 0; i < 10; ++i) {
      const std::string word = random_word(random, 40);
      Ids symbols;
      for (const char c : word) symbols.push_back(c - 'a');
      Ids ids;
      bpe.append(word, ids);
      ASSERT_EQ(ids, slow_bpe(symbols, tables.merges)) << word;
    }
  }
}

TEST(Bpe, PartsThatNoTokenJoinsHaveTheTokensOfTheWhole) {
  std::mt19937 random(4);
  int cuts = 0;
  for (int round = 0; round < 200; ++round) {
    BpeTables tables = random_tables(random);
    tables.bytes = false;
    tables.merges.resize(5);
    const IndependentParts parts(tables);
    const Bpe bpe(tables);
    const std::string word = random_word(random, 60);
    Ids whole, joined;
    bpe.append(word, whole);
    parts.for_each(word, [&](std::string_view part) {
      bpe.append(part, joined);
      ++cuts;
    });
    ASSERT_EQ(joined, whole) << word;
  }
  EXPECT_GT(cuts, 2000);
}

TEST(Bpe, CutsNothingWhereMoreThanMergesMakesTokens) {
  BpeTables tables;
  tables.bytes = false;
  tables.ids = {{"a", 0}, {"b", 1}, {"ab", 2}};
  tables.whole_pieces = true;
  int parts = 0;
  IndependentParts(tables).for_each("ab", [&](std::string_view) { ++parts; });
  EXPECT_EQ(parts, 1);
}

TEST(Bpe, FallsBackToBytesOrTheUnknownToken) {
  BpeTables tables;
  tables.bytes = false;
  tables.ids = {{"a", 0}, {"?", 1}};
  const auto encode = [&](std::string_view text) {
    Ids ids;
    Bpe(tables).append(text, ids);
    return ids;
  };
  EXPECT_THAT(error_of<DataError>([&] { encode("a\xC3\xA9"); }),
              HasSubstr("no token for '\xC3\xA9'"));
  tables.unknown = 1;
  EXPECT_THAT(encode("xya"), ElementsAre(1, 1, 0));
  tables.fuse_unknown = true;
  EXPECT_THAT(encode("xyaxy"), ElementsAre(1, 0, 1));
  tables.byte_fallback = true;
  EXPECT_THAT(encode("x"), ElementsAre(1));  // not all bytes have a token
  for (int byte = 0; byte < 256; ++byte) {
    tables.ids[fmt::format("<0x{:02X}>", byte)] = 100 + byte;
  }
  EXPECT_THAT(encode("a\xC3\xA9"
                     "x"),
              ElementsAre(0, 100 + 0xC3, 100 + 0xA9, 100 + 'x'));
}

TEST(Bpe, TakesALongRunWithoutDelay) {
  std::mt19937 random(5);
  const Bpe bpe(random_tables(random));
  Ids ids;
  bpe.append(std::string(300'000, 'a'), ids);
  EXPECT_GT(ids.size(), 0u);
}

TEST(PieceCache, KeepsWhatItIsGivenUntilItIsFull) {
  PieceCache cache;
  Ids ids;
  EXPECT_FALSE(cache.append("word", ids));
  std::map<std::string, Ids> known;
  for (int i = 0; i < 100'000; ++i) {
    const std::string piece = std::to_string(i * 7919 % 40'000);
    Ids found;
    const auto wanted = known.find(piece);
    if (cache.append(piece, found)) {
      ASSERT_NE(wanted, known.end());
      ASSERT_EQ(found, wanted->second);
    } else {
      known[piece] = {i, i + 1};
      cache.add(piece, known[piece]);
    }
  }
  const std::string longer(PieceCache::kLongest + 1, 'x');
  cache.add(longer, ids);
  EXPECT_FALSE(cache.append(longer, ids));
}

}  // namespace
}  // namespace trireme
