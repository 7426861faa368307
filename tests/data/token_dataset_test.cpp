#include "trireme/data/token_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/data/generated_text.h"
#include "trireme/formats/token_writer.h"
#include "trireme/formats/tokenizer/bytes.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Document {
  std::vector<std::int32_t> tokens;
  std::int64_t prompt_length = 0;
};

std::shared_ptr<const TokenFile> file_of(const std::vector<Document>& documents) {
  TokenWriter writer(*byte_tokenizer(), "documents");
  for (const Document& document : documents) {
    writer.add({.tokens = document.tokens,
                .prompt_length = document.prompt_length,
                .text_bytes = std::ssize(document.tokens)});
  }
  return std::make_shared<TokenFile>(writer.take());
}

// Documents whose tokens are all different: a pair tells where it comes from.
std::vector<Document> numbered(const std::vector<std::int64_t>& lengths) {
  std::vector<Document> documents;
  std::int32_t next = 0;
  for (const std::int64_t length : lengths) {
    Document document{std::vector<std::int32_t>(static_cast<std::size_t>(length))};
    std::iota(document.tokens.begin(), document.tokens.end(), next);
    next += static_cast<std::int32_t>(length);
    documents.push_back(document);
  }
  return documents;
}

std::vector<std::int64_t> all_of(const Dataset& dataset) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(dataset.size()));
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

std::vector<std::int64_t> values(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous();
  return {flat.data_ptr<std::int64_t>(), flat.data_ptr<std::int64_t>() + flat.numel()};
}

TEST(TokenDataset, HasEachPairOfADocumentOnceAtAnySize) {
  for (const std::vector<std::int64_t>& lengths : {std::vector<std::int64_t>{9},
                                                   {17},
                                                   {2},
                                                   {1, 1, 2},
                                                   {5, 1, 8, 3},
                                                   {4, 4, 4},
                                                   {30, 2, 2, 40}}) {
    const auto documents = numbered(lengths);
    std::map<std::pair<std::int64_t, std::int64_t>, int> wanted;
    for (const Document& document : documents) {
      for (std::size_t i = 0; i + 1 < document.tokens.size(); ++i) {
        ++wanted[{document.tokens[i], document.tokens[i + 1]}];
      }
    }
    for (const std::int64_t context : {1, 2, 3, 4, 7, 8, 100}) {
      const TokenDataset dataset(file_of(documents), context);
      const Batch batch = dataset.batch(all_of(dataset));
      std::map<std::pair<std::int64_t, std::int64_t>, int> found;
      const auto inputs = values(batch.input), targets = values(batch.target);
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (targets[i] != Target::kIgnored) ++found[{inputs[i], targets[i]}];
      }
      EXPECT_EQ(found, wanted) << testing::PrintToString(lengths) << ", context " << context;
      EXPECT_EQ(batch.weight, static_cast<double>(wanted.size()));
      EXPECT_EQ(dataset.has_equal_weights(),
                static_cast<std::int64_t>(wanted.size()) % context == 0);
    }
  }
}

TEST(TokenDataset, CountsPositionsFromTheStartOfEachDocument) {
  const TokenDataset dataset(file_of(numbered({4, 3, 5})), 6);
  const Batch batch = dataset.batch(all_of(dataset));
  // Pairs 0-3, 4-6, 7-11 of 3, 2 and 4 pairs; then three places that do not count.
  EXPECT_THAT(values(batch.input), ElementsAre(0, 1, 2, 4, 5, 7, 8, 9, 10, 0, 0, 0));
  EXPECT_THAT(values(batch.positions), ElementsAre(0, 1, 2, 0, 1, 0, 0, 1, 2, 0, 0, 0));
  const auto ignored = Target::kIgnored;
  EXPECT_THAT(values(batch.target),
              ElementsAre(1, 2, 3, 5, 6, 8, 9, 10, 11, ignored, ignored, ignored));
}

TEST(TokenDataset, DoesNotTrainOnPrompts) {
  std::vector<Document> documents = numbered({6, 4});
  documents[0].prompt_length = 3;
  documents[1].prompt_length = 1;  // what follows the first token counts all the same
  const TokenDataset dataset(file_of(documents), 3);
  const Batch batch = dataset.batch(all_of(dataset));
  const auto ignored = Target::kIgnored;
  EXPECT_THAT(values(batch.target), ElementsAre(ignored, ignored, 3, 4, 5, 7, 8, 9, ignored));
  EXPECT_EQ(batch.weight, 6);
  const std::vector<std::int64_t> first{0};
  EXPECT_EQ(dataset.weight(first), 1);
  EXPECT_FALSE(dataset.has_equal_weights());
}

TEST(TokenDataset, CountsTheBytesOfItsTargets) {
  Document document{{'a', 'b', 'c', byte_tokenizer()->end_of_text().value()}};
  EXPECT_EQ(TokenDataset(file_of({document}), 2).counted_bytes(), 2);  // b and c
  document.prompt_length = 2;
  EXPECT_EQ(TokenDataset(file_of({document}), 2).counted_bytes(), 1);  // c
}

TEST(TokenDataset, RefusesWhatHasNoPairs) {
  EXPECT_THROW(TokenDataset(file_of({{{1}}}), 4), DataError);
  EXPECT_THROW(TokenDataset(file_of({{{1, 2}}}), 0), UsageError);
  const TokenDataset dataset(file_of({{{1, 2, 3}}}), 2);
  const std::vector<std::int64_t> outside{1};
  EXPECT_THROW(dataset.batch(outside), UsageError);
}

TEST(GeneratedText, IsAFunctionOfItsSeed) {
  const std::string text = generated_text(1, 20000);
  EXPECT_EQ(text, generated_text(1, 20000));
  EXPECT_NE(text, generated_text(2, 20000));
  EXPECT_GE(text.size(), 20000u);
  EXPECT_LT(text.size(), 20200u);
  EXPECT_THAT(text, HasSubstr(".\n"));
}

}  // namespace
}  // namespace trireme
