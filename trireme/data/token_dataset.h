#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "trireme/data/dataset.h"
#include "trireme/formats/token_file.h"

namespace trireme {

/// Windows of `context` pairs (token, next token) over the documents of a token file.
///
/// The pairs of all documents lie behind each other and are cut into windows, so that each pair of
/// a document is in one window, at any size of the data, and no pair leads from one document into
/// the next. A window may hold parts of several documents (packing): Batch::positions tells where
/// each begins, and attention does not cross from one to another. The last window is filled up with
/// targets that do not count, and neither do the targets that belong to a prompt.
///
/// A sample's input and target are [context] of i64; it weighs as many as it has targets that
/// count.
class TokenDataset final : public Dataset {
 public:
  /// Throws UsageError unless context is positive, DataError if no document has two tokens.
  TokenDataset(std::shared_ptr<const TokenFile> file, std::int64_t context);

  std::int64_t size() const override { return (pairs_ + context_ - 1) / context_; }
  std::vector<std::int64_t> input_shape() const override { return {context_}; }
  Target target() const override { return Target::tokens(file_->vocabulary(), context_); }
  Batch batch(std::span<const std::int64_t> indices) const override;
  double weight(std::span<const std::int64_t> indices) const override;
  bool has_equal_weights() const override { return has_equal_weights_; }

  const TokenFile& file() const { return *file_; }
  /// Bytes of the text that the targets that count stand for.
  double counted_bytes() const;

 private:
  // Pairs of one document inside of a window.
  struct Piece {
    std::int64_t first = 0;      // token of the file that is the first input
    std::int64_t count = 0;      // of pairs
    std::int64_t uncounted = 0;  // pairs at its start whose targets do not count
  };

  template <class Visit>
  void for_each_piece(std::int64_t window, const Visit& visit) const;

  std::shared_ptr<const TokenFile> file_;
  std::int64_t context_;
  std::vector<std::int64_t> first_pair_;  // of each document, and the number of all pairs
  std::int64_t pairs_ = 0;
  bool has_equal_weights_ = true;
};

}  // namespace trireme
