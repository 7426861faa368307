#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "trireme/base/zeroed_memory.h"
#include "trireme/optim/optimizer.h"
#include "trireme/server/declaration.h"

namespace trireme::server {

/// Gradients of some rows, one after another in the order of `keys`.
struct RowGradients {
  std::span<const std::uint64_t> keys;
  const float* gradients = nullptr;
};

/// What a push does to every row it touches.
struct RowUpdate {
  double lr = 0;
  double scale = 1;
  double clip_value = 0;
};

/// The rows of a sparse table that one server holds: values and optimizer state of a row lie side
/// by side, in blocks that never move, found by a hash table of open addressing. Rows are made by
/// their first update; one that there is not reads as what it would begin with. One thread.
class Rows {
 public:
  explicit Rows(const SparseTable& table);

  std::int64_t width() const { return table_.width; }
  std::int64_t size() const { return static_cast<std::int64_t>(keys_.size()); }
  /// Arrays of a row: its values and those of the optimizer's state.
  int slots() const { return slots_; }
  std::span<const std::uint64_t> keys() const { return keys_; }

  /// Takes the gradients of the next update, which must outlive it: adds up, in this order, those
  /// of keys that come more than once, and makes rows that there are not. Throws std::bad_alloc,
  /// and no row has changed.
  void prepare(std::span<const RowGradients> pushes);
  /// Updates each row of what has been prepared once. Allocates nothing.
  void update(const RowUpdate& update);

  /// Array `slot` of the rows of `keys`: [keys, width].
  void read(std::span<const std::uint64_t> keys, int slot, float* out) const;
  /// Makes those that there are not. Throws std::bad_alloc, and the rows that there were are as
  /// they were.
  void make(std::span<const std::uint64_t> keys);
  /// Sets it, making rows that there are not.
  void write(std::span<const std::uint64_t> keys, int slot, const float* values);

  /// How often each row has been updated.
  void read_steps(std::span<const std::uint64_t> keys, std::int64_t* steps) const;
  void write_steps(std::span<const std::uint64_t> keys, const std::int64_t* steps);

  /// Memory taken, everything counted.
  std::size_t bytes() const;

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;

  struct Note {
    std::uint32_t steps = 0;
    std::uint32_t round = 0;  // the last update() that touched it,
    std::uint32_t place = 0;  // and where among those that it touched
  };
  struct Touched {
    std::uint32_t row;
    const float* gradient;
    bool is_sum = false;  // of several, in `sums_`
  };

  std::size_t slot_of(std::uint64_t key) const;
  std::uint32_t find(std::uint64_t key) const;
  std::uint32_t find_or_make(std::uint64_t key);
  void grow();
  float* row(std::uint32_t row) const;
  void begin_with(std::uint64_t key, float* values) const;
  void touch(std::uint32_t row, const float* gradient);

  SparseTable table_;
  std::unique_ptr<Optimizer> optimizer_;
  int slots_;
  std::int64_t rows_per_block_;
  std::vector<ZeroedMemory> blocks_;
  std::vector<std::uint64_t> keys_;  // of each row
  std::vector<Note> notes_;          // of each row
  std::vector<std::uint64_t> index_keys_;
  std::vector<std::uint32_t> index_rows_;  // kNone: free

  // The update that is being prepared.
  std::uint32_t round_ = 0;
  std::vector<Touched> touched_;
  std::vector<std::unique_ptr<float[]>> sums_;  // of keys that came more than once
};

}  // namespace trireme::server
