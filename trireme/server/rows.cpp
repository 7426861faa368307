#include "trireme/server/rows.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "trireme/base/hash.h"
#include "trireme/base/random.h"

namespace trireme::server {

namespace {

constexpr std::size_t kBlockBytes = std::size_t{2} << 20;
constexpr std::size_t kFirstIndex = 1024;  // a power of two
constexpr std::size_t kAhead = 8;          // rows that are prefetched

// The capacity of a vector of at least `size` elements: it doubles.
std::size_t grown(std::size_t capacity, std::size_t size) {
  if (capacity == 0 && size > 0) capacity = 1;
  while (capacity < size) capacity *= 2;
  return capacity;
}

}  // namespace

Rows::Rows(const SparseTable& table)
    : table_(table),
      optimizer_(make_optimizer(table.optimizer, {})),
      arrays_(1 + static_cast<int>(optimizer_->state_arrays().size())),
      rows_per_block_(std::max<std::int64_t>(
          1, static_cast<std::int64_t>(kBlockBytes / sizeof(float)) / (arrays_ * table.width))),
      index_keys_(kFirstIndex),
      index_rows_(kFirstIndex, kNone) {}

float* Rows::row(std::uint32_t row) const {
  const auto floats = (row % rows_per_block_) * arrays_ * table_.width;
  return reinterpret_cast<float*>(blocks_[static_cast<std::size_t>(row / rows_per_block_)].data()) +
         floats;
}

// The entry of the key, or the free entry where it belongs.
std::size_t Rows::index_of(std::uint64_t key) const {
  const std::size_t mask = index_keys_.size() - 1;
  std::size_t at = mix_bits(key) & mask;
  while (index_rows_[at] != kNone && index_keys_[at] != key) at = (at + 1) & mask;
  return at;
}

std::uint32_t Rows::find(std::uint64_t key) const {
  return index_rows_[index_of(key)];
}

std::uint32_t Rows::find_or_create(std::uint64_t key) {
  std::size_t at = index_of(key);
  if (index_rows_[at] != kNone) return index_rows_[at];
  if (10 * (keys_.size() + 1) > 7 * index_keys_.size()) {
    grow();
    at = index_of(key);
  }
  const auto created = static_cast<std::uint32_t>(keys_.size());
  // The row exists once the index has it: if memory runs out before, nothing has changed.
  if (created / rows_per_block_ == std::ssize(blocks_)) {
    blocks_.emplace_back(static_cast<std::size_t>(rows_per_block_ * arrays_ * table_.width) *
                         sizeof(float));
  }
  metadata_.resize(created + std::size_t{1});
  keys_.push_back(key);
  index_keys_[at] = key;
  index_rows_[at] = created;
  float* values = row(created);
  initialize(key, values);
  for (const Optimizer::StateArray& array : optimizer_->state_arrays()) {
    values += table_.width;
    if (array.initial != 0) std::fill_n(values, table_.width, static_cast<float>(array.initial));
  }
  return created;
}

void Rows::grow() {
  std::vector<std::uint64_t> keys(2 * index_keys_.size());
  std::vector<std::uint32_t> rows(2 * index_rows_.size(), kNone);
  index_keys_.swap(keys);
  index_rows_.swap(rows);
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    const std::size_t at = index_of(keys_[i]);
    index_keys_[at] = keys_[i];
    index_rows_[at] = static_cast<std::uint32_t>(i);
  }
}

void Rows::initialize(std::uint64_t key, float* values) const {
  if (table_.init.kind == RowInit::Kind::kZeros) {
    std::fill_n(values, table_.width, 0.0F);
    return;
  }
  const CounterRandom random(table_.init.seed, key);
  for (std::int64_t i = 0; i < table_.width; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    const double drawn = table_.init.kind == RowInit::Kind::kUniform ? 2 * random.uniform(index) - 1
                                                                     : random.normal(index);
    values[i] = static_cast<float>(table_.init.scale * drawn);
  }
}

void Rows::add(std::uint32_t row, const float* gradient) {
  RowMetadata& metadata = metadata_[row];
  if (metadata.round != round_) {
    metadata.round = round_;
    metadata.place = static_cast<std::uint32_t>(updated_.size());
    updated_.push_back({row, gradient});
    return;
  }
  Updated& before = updated_[metadata.place];
  if (!before.is_sum) {
    sums_.push_back(std::make_unique<float[]>(static_cast<std::size_t>(table_.width)));
    std::copy_n(before.gradient, table_.width, sums_.back().get());
    before.gradient = sums_.back().get();
    before.is_sum = true;
  }
  float* sum = const_cast<float*>(before.gradient);
  for (std::int64_t i = 0; i < table_.width; ++i) sum[i] += gradient[i];
}

void Rows::prepare(std::span<const RowGradients> pushes) {
  if (++round_ == 0) {  // the counter has wrapped around
    for (RowMetadata& metadata : metadata_) metadata.round = 0;
    round_ = 1;
  }
  updated_.clear();
  sums_.clear();
  for (const RowGradients& push : pushes) {
    const float* gradient = push.gradients;
    for (const std::uint64_t key : push.keys) {
      add(find_or_create(key), gradient);
      gradient += table_.width;
    }
  }
}

void Rows::update(const RowUpdate& update) {
  optimizer_->set_lr(update.lr);
  std::array<void*, 8> state{};
  for (std::size_t i = 0; i < updated_.size(); ++i) {
    if (i + kAhead < updated_.size()) __builtin_prefetch(row(updated_[i + kAhead].row), 1);
    float* values = row(updated_[i].row);
    for (int array = 1; array < arrays_; ++array) state[array - 1] = values + array * table_.width;
    optimizer_->update({{values, table_.width, DType::kF32},
                        updated_[i].gradient,
                        update.scale,
                        update.clip_value},
                       std::span<void* const>(state.data(), static_cast<std::size_t>(arrays_ - 1)),
                       ++metadata_[updated_[i].row].steps);
  }
  updated_.clear();
}

void Rows::read(std::span<const std::uint64_t> keys, int array, float* out) const {
  for (const std::uint64_t key : keys) {
    const std::uint32_t found = find(key);
    if (found != kNone) {
      std::copy_n(row(found) + array * table_.width, table_.width, out);
    } else if (array == 0) {
      initialize(key, out);
    } else {
      const double initial =
          optimizer_->state_arrays()[static_cast<std::size_t>(array - 1)].initial;
      std::fill_n(out, table_.width, static_cast<float>(initial));
    }
    out += table_.width;
  }
}

void Rows::reserve(std::span<const std::uint64_t> keys) {
  for (const std::uint64_t key : keys) find_or_create(key);
}

void Rows::write(std::span<const std::uint64_t> keys, int array, const float* values) {
  for (const std::uint64_t key : keys) {
    std::copy_n(values, table_.width, row(find_or_create(key)) + array * table_.width);
    values += table_.width;
  }
}

void Rows::read_steps(std::span<const std::uint64_t> keys, std::int64_t* steps) const {
  for (const std::uint64_t key : keys) {
    const std::uint32_t found = find(key);
    *steps++ = found == kNone ? 0 : metadata_[found].steps;
  }
}

void Rows::write_steps(std::span<const std::uint64_t> keys, const std::int64_t* steps) {
  for (const std::uint64_t key : keys) {
    metadata_[find_or_create(key)].steps = static_cast<std::uint32_t>(*steps++);
  }
}

std::size_t Rows::bytes() const {
  return bytes_of(keys_.size());
}

// As find_or_create() and grow() allocate it.
std::size_t Rows::bytes_of(std::size_t rows) const {
  const auto per_block = static_cast<std::size_t>(rows_per_block_);
  const std::size_t block =
      per_block * static_cast<std::size_t>(arrays_ * table_.width) * sizeof(float);
  const std::size_t blocks = std::max(blocks_.size(), (rows + per_block - 1) / per_block);
  std::size_t index = index_keys_.size();
  while (10 * rows > 7 * index) index *= 2;
  return blocks * (block + sizeof(ZeroedMemory)) +
         grown(keys_.capacity(), rows) * sizeof(std::uint64_t) +
         grown(metadata_.capacity(), rows) * sizeof(RowMetadata) +
         index * (sizeof(std::uint64_t) + sizeof(std::uint32_t));
}

std::size_t Rows::bytes_with(std::span<const std::uint64_t> keys) const {
  std::vector<std::uint64_t> missing;
  missing.reserve(keys.size());
  for (const std::uint64_t key : keys) {
    if (find(key) == kNone) missing.push_back(key);
  }
  std::ranges::sort(missing);
  // clang 14 does not compile std::ranges::unique of this library.
  const auto distinct = std::unique(missing.begin(), missing.end()) - missing.begin();
  return bytes_of(keys_.size() + static_cast<std::size_t>(distinct));
}

std::size_t Rows::empty_bytes() {
  return sizeof(Rows) + kFirstIndex * (sizeof(std::uint64_t) + sizeof(std::uint32_t));
}

}  // namespace trireme::server
