#include "trireme/data/token_dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme {

TokenDataset::TokenDataset(std::shared_ptr<const TokenFile> file, std::int64_t context)
    : file_(std::move(file)), context_(context) {
  if (context < 1) {
    throw UsageError(fmt::format("model.context must be at least 1 token, got {}", context));
  }
  bool has_prompts = false;
  first_pair_.reserve(static_cast<std::size_t>(file_->documents()) + 1);
  for (std::int64_t d = 0; d < file_->documents(); ++d) {
    first_pair_.push_back(pairs_);
    const std::int64_t tokens = file_->document_start(d + 1) - file_->document_start(d);
    pairs_ += std::max<std::int64_t>(0, tokens - 1);
    has_prompts = has_prompts || file_->prompt_length(d) > 1;
  }
  first_pair_.push_back(pairs_);
  if (pairs_ == 0) {
    throw DataError(
        fmt::format("{}: a document must have at least two tokens, and none has", file_->name()));
  }
  has_equal_weights_ = !has_prompts && pairs_ % context_ == 0;
}

template <class Visit>
void TokenDataset::for_each_piece(std::int64_t window, const Visit& visit) const {
  std::int64_t pair = window * context_;
  const std::int64_t end = std::min(pairs_, pair + context_);
  auto document = std::upper_bound(first_pair_.begin(), first_pair_.end(), pair) - 1;
  for (; pair < end; ++document) {
    const std::int64_t d = document - first_pair_.begin();
    const std::int64_t inside = pair - *document;
    const std::int64_t count = std::min(end, *(document + 1)) - pair;
    // The target of pair i of a document is its token i + 1.
    const std::int64_t uncounted =
        std::clamp<std::int64_t>(file_->prompt_length(d) - 1 - inside, 0, count);
    if (count > 0) visit(Piece{file_->document_start(d) + inside, count, uncounted});
    pair += count;
  }
}

Batch TokenDataset::batch(std::span<const std::int64_t> indices) const {
  const auto rows = static_cast<std::int64_t>(indices.size());
  Batch batch(at::zeros({rows, context_}, at::kLong),
              at::full({rows, context_}, Target::kIgnored, at::kLong), weight(indices));
  const bool is_packed = file_->documents() > 1;
  if (is_packed) batch.positions = at::zeros({rows, context_}, at::kLong);
  std::vector<std::int64_t> tokens;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t index = indices[static_cast<std::size_t>(row)];
    if (index < 0 || index >= size()) {
      throw UsageError(
          fmt::format("{}: a sample must lie in [0, {}), got {}", file_->name(), size(), index));
    }
    std::int64_t at = row * context_;
    for_each_piece(index, [&](const Piece& piece) {
      tokens.resize(static_cast<std::size_t>(piece.count) + 1);
      file_->copy(piece.first, tokens);
      std::copy(tokens.begin(), tokens.end() - 1, batch.input.data_ptr<std::int64_t>() + at);
      std::copy(tokens.begin() + 1 + piece.uncounted, tokens.end(),
                batch.target.data_ptr<std::int64_t>() + at + piece.uncounted);
      if (is_packed) {
        std::int64_t* const positions = batch.positions.data_ptr<std::int64_t>() + at;
        std::iota(positions, positions + piece.count, 0);
      }
      at += piece.count;
    });
  }
  return batch;
}

double TokenDataset::weight(std::span<const std::int64_t> indices) const {
  std::int64_t counted = 0;
  for (const std::int64_t index : indices) {
    for_each_piece(index, [&](const Piece& piece) { counted += piece.count - piece.uncounted; });
  }
  return static_cast<double>(counted);
}

double TokenDataset::counted_bytes() const {
  const auto tokenizer = tokenizer_from_json(file_->tokenizer_json());
  std::vector<std::int64_t> bytes_of(static_cast<std::size_t>(file_->vocabulary()));
  for (std::size_t id = 0; id < bytes_of.size(); ++id) {
    const std::array<std::int32_t, 1> one{static_cast<std::int32_t>(id)};
    bytes_of[id] = std::ssize(tokenizer->decode(one));
  }
  // What ends a document stands for no text.
  if (const auto end = tokenizer->end_of_text()) bytes_of[static_cast<std::size_t>(*end)] = 0;
  std::int64_t bytes = 0;
  std::vector<std::int64_t> tokens;
  for (std::int64_t window = 0; window < size(); ++window) {
    for_each_piece(window, [&](const Piece& piece) {
      tokens.resize(static_cast<std::size_t>(piece.count - piece.uncounted));
      file_->copy(piece.first + 1 + piece.uncounted, tokens);
      for (const std::int64_t token : tokens) bytes += bytes_of[static_cast<std::size_t>(token)];
    });
  }
  return static_cast<double>(bytes);
}

}  // namespace trireme
