#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "trireme/base/zeroed_memory.h"
#include "trireme/optim/optimizer.h"
#include "trireme/server/model_schema.h"

namespace trireme::server {

/// The gradients of some rows, one after another in the order of `keys`.
struct RowGradients {
  std::span<const std::uint64_t> keys;
  const float* gradients = nullptr;
};

/// How an update treats the summed gradient of each row.
struct RowUpdate {
  double lr = 0;
  double scale = 1;
  double clip_value = 0;
};

/// The rows of a sparse table that one server holds. The values and the optimizer state of a row
/// lie side by side, in blocks that never move; an open-addressing hash table finds them by key. A
/// row is created by its first update; a missing row reads as its initial value. One thread.
class Rows {
 public:
  explicit Rows(const SparseTable& table);

  std::int64_t width() const { return table_.width; }
  std::int64_t size() const { return static_cast<std::int64_t>(keys_.size()); }
  /// Arrays of a row: its values and those of the optimizer's state.
  int arrays() const { return arrays_; }
  std::span<const std::uint64_t> keys() const { return keys_; }

  /// Takes the gradients of the next update(), which must outlive it. Gradients of one key are
  /// summed in the order of `pushes`; missing rows are created. Throws std::bad_alloc, and no
  /// value has changed.
  void prepare(std::span<const RowGradients> pushes);
  /// Updates each row of the last prepare() once. Allocates nothing.
  void update(const RowUpdate& update);

  /// Reads array `array` of the rows of `keys`: [keys, width].
  void read(std::span<const std::uint64_t> keys, int array, float* out) const;
  /// Creates missing rows. Throws std::bad_alloc, and no value has changed.
  void reserve(std::span<const std::uint64_t> keys);
  /// Writes array `array` of the rows of `keys`, and creates missing rows.
  void write(std::span<const std::uint64_t> keys, int array, const float* values);

  /// The number of updates of each row.
  void read_steps(std::span<const std::uint64_t> keys, std::int64_t* steps) const;
  void write_steps(std::span<const std::uint64_t> keys, const std::int64_t* steps);

  /// Allocated memory, the index included.
  std::size_t bytes() const;
  /// The same after the missing ones of `keys` have been created. Allocates at most 8 bytes for
  /// each key.
  std::size_t bytes_with(std::span<const std::uint64_t> keys) const;
  /// Of an empty table.
  static std::size_t empty_bytes();

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;

  struct RowMetadata {
    std::uint32_t steps = 0;
    std::uint32_t round = 0;  // the last prepare() that had a gradient for it,
    std::uint32_t place = 0;  // and where it is in `updated_` then
  };
  struct Updated {
    std::uint32_t row;
    const float* gradient;
    bool is_sum = false;  // of several gradients, in `sums_`
  };

  std::size_t index_of(std::uint64_t key) const;
  std::uint32_t find(std::uint64_t key) const;
  std::size_t bytes_of(std::size_t rows) const;
  std::uint32_t find_or_create(std::uint64_t key);
  void grow();
  float* row(std::uint32_t row) const;
  void initialize(std::uint64_t key, float* values) const;
  void add(std::uint32_t row, const float* gradient);

  SparseTable table_;
  std::unique_ptr<Optimizer> optimizer_;
  int arrays_;
  std::int64_t rows_per_block_;
  std::vector<ZeroedMemory> blocks_;
  std::vector<std::uint64_t> keys_;    // of each row
  std::vector<RowMetadata> metadata_;  // of each row
  std::vector<std::uint64_t> index_keys_;
  std::vector<std::uint32_t> index_rows_;  // kNone: a free entry

  // The next update.
  std::uint32_t round_ = 0;
  std::vector<Updated> updated_;
  std::vector<std::unique_ptr<float[]>> sums_;  // of keys with several gradients
};

}  // namespace trireme::server
