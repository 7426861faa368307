#include "trireme/server/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/kernels/compress.h"

namespace trireme::server {

namespace {

std::span<const std::uint64_t> keys_of(const Part& part) {
  return {reinterpret_cast<const std::uint64_t*>(part.payload.data()),
          static_cast<std::size_t>(part.count)};
}

const std::byte* behind_keys(const Part& part) {
  return part.payload.data() + static_cast<std::size_t>(part.count) * sizeof(std::uint64_t);
}

const Part* part_of(const Message& push, std::uint32_t table) {
  for (const Part& part : push.parts) {
    if (part.table == table && Store::is_gradient(part)) return &part;
  }
  return nullptr;
}

// Bytes of `rows` arrays of `count` elements: hostile counts do not overflow.
std::size_t product(std::int64_t count, std::int64_t rows, std::size_t size) {
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::size_t>(count), static_cast<std::size_t>(rows),
                             &bytes) ||
      __builtin_mul_overflow(bytes, size, &bytes)) {
    throw UsageError("message: a part is larger than any memory");
  }
  return bytes;
}

}  // namespace

Store::Store(const Declaration& declaration, int shard, int shards)
    : declaration_(declaration), shard_(shard), shards_(shards) {
  check(declaration_);
  ranges_.reserve(declaration_.dense.size());
  for (std::size_t i = 0; i < declaration_.dense.size(); ++i) {
    const DenseTable& table = declaration_.dense[i];
    Dense& dense = dense_.emplace_back();
    dense.range = range_of(table.count, i, shard_, shards_);
    const std::int64_t count = dense.range.size();
    if (count == 0) continue;
    values_.emplace_back(static_cast<std::size_t>(count) * size_of(table.dtype));
    dense.place = ranges_.size();
    dense.slots = {{values_.back().data(), count, table.dtype}};
    ranges_.push_back({.name = table.name,
                       .region = Region({table.count}).slice(dense.range),
                       .values = dense.slots[0]});
  }
  optimizer_ = make_optimizer(declaration_.optimizer, ranges_);
  optimizer_->set_gradient_clip_value(declaration_.clip_value);
  for (Dense& dense : dense_) {
    if (dense.slots.empty()) continue;
    Optimizer::ShardState& state = optimizer_->shard_states()[dense.place];
    dense.steps = buffer_of(std::span(&state.step, 1));
    dense.slots.insert(dense.slots.end(), state.arrays.begin(), state.arrays.end());
  }
  for (const SparseTable& sparse : declaration_.sparse) {
    sparse_.push_back(std::make_unique<Rows>(sparse));
  }
}

const std::string& Store::table_of(const Part& part) const {
  return is_sparse(part) ? declaration_.sparse[part.table - declaration_.dense.size()].name
                         : declaration_.dense[part.table].name;
}

void Store::check_table(const Part& part, bool sparse) const {
  const std::size_t tables = declaration_.dense.size() + declaration_.sparse.size();
  if (part.table >= tables) {
    throw UsageError(
        fmt::format("message: the model has {} tables, got number {}", tables, part.table));
  }
  if (is_sparse(part) != sparse) {
    throw UsageError(fmt::format("{}: is a {} table, got what is for a {} one", table_of(part),
                                 sparse ? "dense" : "sparse", sparse ? "sparse" : "dense"));
  }
}

void Store::check_range(const Part& part) const {
  const Range mine = dense_of(part).range;
  if (part.first >= mine.begin && part.first + part.count <= mine.end) return;
  throw UsageError(fmt::format("{}: server {} of {} holds elements {} to {}, got {} to {}",
                               table_of(part), shard_, shards_, mine.begin, mine.end, part.first,
                               part.first + part.count));
}

void Store::check_payload(const Part& part, std::size_t bytes) const {
  if (part.payload.size() == bytes) return;
  throw UsageError(
      fmt::format("{}: {} bytes are wanted, got {}", table_of(part), bytes, part.payload.size()));
}

void Store::check_keys(const Part& part) const {
  for (const std::uint64_t key : keys_of(part)) {
    if (shard_of(key, shards_) == shard_) continue;
    throw UsageError(fmt::format("{}: the row of key {} lies on server {} of {}, not on {}",
                                 table_of(part), key, shard_of(key, shards_), shards_, shard_));
  }
}

int Store::slots_of(const Part& part) const {
  return is_sparse(part) ? rows_of(part).slots()
                         : 1 + static_cast<int>(optimizer_->state_arrays().size());
}

void Store::check_gradients(const Message& push, std::int64_t rows) const {
  std::vector<bool> seen(declaration_.dense.size() + declaration_.sparse.size());
  for (const Part& part : push.parts) {
    if (!is_gradient(part)) continue;
    check_table(part, part.form == Form::kRowGradients);
    if (seen[part.table]) throw UsageError(table_of(part) + ": comes twice in one push");
    seen[part.table] = true;
    if (part.form == Form::kRowGradients) {
      const auto width = static_cast<std::size_t>(rows_of(part).width());
      check_payload(part, product(part.count, 1, sizeof(std::uint64_t) + width * sizeof(float)));
      check_keys(part);
      continue;
    }
    const Range mine = dense_of(part).range;
    if (part.first != mine.begin || part.count != mine.size()) {
      throw UsageError(fmt::format(
          "{}: a gradient of the elements {} to {} that server {} of {} holds is wanted, got {} "
          "to {}",
          table_of(part), mine.begin, mine.end, shard_, shards_, part.first,
          part.first + part.count));
    }
    if (part.form == Form::kEncoded) {
      if (rows == 1) continue;  // decoded() looks into it
      throw UsageError(fmt::format(
          "{}: is wanted as {} rows of a tree, which no codec carries; push averages, or values as "
          "they are",
          table_of(part), rows));
    }
    check_payload(part, product(part.count, rows, size_of(declaration_.dense[part.table].dtype)));
  }
}

std::size_t Store::decoded_bytes(const Part& part) const {
  return product(part.count, 1, size_of(declaration_.dense[part.table].dtype));
}

std::unique_ptr<std::byte[]> Store::decoded(const Part& part) const {
  auto values = std::make_unique<std::byte[]>(decoded_bytes(part));
  auto* const narrow = reinterpret_cast<float*>(values.get());
  trireme::decode(part.payload, part.count, narrow);
  if (declaration_.dense[part.table].dtype == DType::kF64) {
    // From the back: each f64 takes the place of two f32.
    for (std::int64_t i = part.count; i-- > 0;) {
      const double wide = narrow[i];
      std::memcpy(values.get() + static_cast<std::size_t>(i) * sizeof wide, &wide, sizeof wide);
    }
  }
  return values;
}

void Store::check_wanted(const Part& part) const {
  const bool sparse = part.form == Form::kKeys || part.form == Form::kAllKeys;
  if (!sparse && part.form != Form::kRange) {
    throw UsageError("message: a part must ask for values, got one that brings them");
  }
  check_table(part, sparse);
  if (part.slot >= slots_of(part) && part.slot != kStepSlot) {
    throw UsageError(
        fmt::format("{}: has {} arrays, got number {}", table_of(part), slots_of(part), part.slot));
  }
  if (part.form == Form::kRange) return check_range(part);
  if (part.form == Form::kAllKeys) return check_payload(part, 0);
  check_payload(part, product(part.count, 1, sizeof(std::uint64_t)));
  check_keys(part);
}

void Store::check_values(const Part& part) const {
  const bool sparse = part.form == Form::kRowValues;
  if (!sparse && part.form != Form::kValues) {
    throw UsageError("message: a part must bring values, got one that does not");
  }
  check_table(part, sparse);
  const bool steps = part.slot == kStepSlot;
  if (part.slot >= slots_of(part) && !steps) {
    throw UsageError(
        fmt::format("{}: has {} arrays, got number {}", table_of(part), slots_of(part), part.slot));
  }
  if (!sparse) {
    check_range(part);
    const DType dtype = steps ? DType::kI64 : declaration_.dense[part.table].dtype;
    return check_payload(part, product(steps ? 1 : part.count, 1, size_of(dtype)));
  }
  const auto width = static_cast<std::size_t>(rows_of(part).width());
  const std::size_t row = steps ? sizeof(std::int64_t) : width * sizeof(float);
  check_payload(part, product(part.count, 1, sizeof(std::uint64_t) + row));
  check_keys(part);
}

void Store::prepare(std::span<const Message* const> pushes, const ReductionTree* tree) {
  const Message& first = *pushes.front();
  optimizer_->set_lr(first.lr);
  optimizer_->set_gradient_scale(first.scale);
  row_update_ = {.lr = first.lr,
                 .scale = tree ? first.scale / tree->leaves() : first.scale,
                 .clip_value = declaration_.clip_value};
  prepare_dense(pushes, tree);
  prepare_rows(pushes);
}

void Store::update() {
  optimizer_->step();
  for (const auto& rows : sparse_) rows->update(row_update_);
}

void Store::prepare_dense(std::span<const Message* const> pushes, const ReductionTree* tree) {
  for (std::uint32_t table = 0; table < dense_.size(); ++table) {
    if (dense_[table].slots.empty()) continue;
    Shard& shard = ranges_[dense_[table].place];
    shard.gradient.clear();
    shard.tree = tree;
    shard.has_gradient = false;
    bool all = true;
    for (std::size_t i = 0; i < pushes.size(); ++i) {
      const Part* part = part_of(*pushes[i], table);
      if (part == nullptr) {
        all = false;
        break;
      }
      shard.has_gradient = shard.has_gradient || !part->empty;
      const auto rows = tree ? tree->nodes_of(static_cast<int>(i)).size() : 1;
      for (std::size_t row = 0; row < rows; ++row) {
        shard.gradient.push_back(part->payload.data() + row * shard.values.bytes());
      }
    }
    shard.has_gradient = shard.has_gradient && all;
  }
}

void Store::prepare_rows(std::span<const Message* const> pushes) {
  std::vector<RowGradients> gradients;
  for (std::size_t i = 0; i < sparse_.size(); ++i) {
    gradients.clear();
    for (const Message* push : pushes) {
      const auto table = static_cast<std::uint32_t>(dense_.size() + i);
      const Part* part = part_of(*push, table);
      if (part == nullptr) continue;
      gradients.push_back({keys_of(*part), reinterpret_cast<const float*>(behind_keys(*part))});
    }
    sparse_[i]->prepare(gradients);
  }
}

std::size_t Store::bytes_of(const Part& part) const {
  const bool steps = part.slot == kStepSlot;
  const auto count = static_cast<std::size_t>(part.count);
  if (part.form == Form::kRange) {
    return steps ? sizeof(std::int64_t) : count * size_of(declaration_.dense[part.table].dtype);
  }
  const Rows& rows = rows_of(part);
  if (part.form == Form::kAllKeys) {
    return static_cast<std::size_t>(
               std::clamp<std::int64_t>(rows.size() - part.first, 0, part.count)) *
           sizeof(std::uint64_t);
  }
  return count *
         (steps ? sizeof(std::int64_t) : static_cast<std::size_t>(rows.width()) * sizeof(float));
}

void Store::read(const Part& part, std::span<std::byte> out) const {
  const bool steps = part.slot == kStepSlot;
  if (part.form == Form::kRange) {
    const Dense& dense = dense_of(part);
    if (steps) {
      const std::int64_t none = 0;
      std::memcpy(out.data(), dense.slots.empty() ? &none : dense.steps.data, sizeof none);
    } else if (part.count > 0) {
      const Buffer values =
          dense.slots[part.slot].slice(part.first - dense.range.begin, part.count);
      std::memcpy(out.data(), values.data, values.bytes());
    }
    return;
  }
  const Rows& rows = rows_of(part);
  if (part.form == Form::kAllKeys) {
    if (!out.empty()) std::memcpy(out.data(), rows.keys().data() + part.first, out.size());
  } else if (steps) {
    rows.read_steps(keys_of(part), reinterpret_cast<std::int64_t*>(out.data()));
  } else {
    rows.read(keys_of(part), part.slot, reinterpret_cast<float*>(out.data()));
  }
}

void Store::make_room(const Part& part) {
  if (part.form == Form::kRowValues) rows_of(part).make(keys_of(part));
}

void Store::write(const Part& part) {
  const bool steps = part.slot == kStepSlot;
  if (part.form == Form::kRowValues) {
    Rows& rows = rows_of(part);
    if (steps) {
      rows.write_steps(keys_of(part), reinterpret_cast<const std::int64_t*>(behind_keys(part)));
    } else {
      rows.write(keys_of(part), part.slot, reinterpret_cast<const float*>(behind_keys(part)));
    }
    return;
  }
  Dense& dense = dense_[part.table];
  if (steps) {
    if (!dense.slots.empty())
      std::memcpy(dense.steps.data, part.payload.data(), dense.steps.bytes());
    return;
  }
  if (part.count > 0) {
    const Buffer to = dense.slots[part.slot].slice(part.first - dense.range.begin, part.count);
    std::memcpy(to.data, part.payload.data(), to.bytes());
  }
  if (part.slot == 0 && part.count == dense.range.size()) dense.is_written = true;
}

bool Store::is_complete() const {
  return std::ranges::all_of(
      dense_, [](const Dense& dense) { return dense.slots.empty() || dense.is_written; });
}

std::size_t Store::dense_bytes(const Declaration& declaration, int shard, int shards) {
  const std::size_t arrays = 1 + make_optimizer(declaration.optimizer, {})->state_arrays().size();
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < declaration.dense.size(); ++i) {
    const DenseTable& table = declaration.dense[i];
    const auto count = static_cast<std::size_t>(range_of(table.count, i, shard, shards).size());
    bytes += arrays * count * size_of(table.dtype);
  }
  return bytes;
}

std::size_t Store::row_bytes() const {
  std::size_t bytes = 0;
  for (const auto& rows : sparse_) bytes += rows->bytes();
  return bytes;
}

}  // namespace trireme::server
