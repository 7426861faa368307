#include "trireme/server/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "trireme/base/error.h"
#include "trireme/kernels/compress.h"

namespace trireme::server {

namespace {

TensorShape shape_of(const DenseTable& table) {
  return table.shape.empty() ? TensorShape{table.count} : table.shape;
}

const Part* gradient_of(const Message& push, std::uint32_t table) {
  for (const Part& part : push.parts) {
    if (part.table == table && part.is_gradient()) return &part;
  }
  return nullptr;
}

}  // namespace

Store::Store(const ModelSchema& schema, int shard, int shards)
    : schema_(schema), shard_(shard), shards_(shards) {
  check(schema_);
  ranges_.reserve(schema_.dense.size());
  for (std::size_t i = 0; i < schema_.dense.size(); ++i) {
    const DenseTable& table = schema_.dense[i];
    Dense& dense = dense_.emplace_back();
    dense.range = range_of(schema_, i, shard_, shards_);
    const std::int64_t count = dense.range.size();
    if (count == 0) continue;
    values_.emplace_back(static_cast<std::size_t>(count) * size_of(table.dtype));
    dense.shard = ranges_.size();
    dense.arrays = {{values_.back().data(), count, table.dtype}};
    ranges_.push_back({.name = table.name,
                       .region = Region(shape_of(table)).slice(dense.range),
                       .values = dense.arrays[0]});
  }
  optimizer_ = make_optimizer(schema_.optimizer, ranges_);
  optimizer_->set_groups(schema_.groups);
  optimizer_->set_gradient_clip_value(schema_.clip_value);
  for (Dense& dense : dense_) {
    if (dense.arrays.empty()) continue;
    Optimizer::ShardState& state = optimizer_->shard_states()[dense.shard];
    dense.steps = buffer_of(std::span(&state.step, 1));
    dense.arrays.insert(dense.arrays.end(), state.arrays.begin(), state.arrays.end());
  }
  for (const SparseTable& sparse : schema_.sparse) {
    sparse_.push_back(std::make_unique<Rows>(sparse));
  }
}

const std::string& Store::table_of(const Part& part) const {
  return is_sparse(part) ? schema_.sparse[part.table - schema_.dense.size()].name
                         : schema_.dense[part.table].name;
}

std::size_t Store::decoded_bytes(const Part& part) const {
  return static_cast<std::size_t>(part.count) * size_of(schema_.dense[part.table].dtype);
}

std::unique_ptr<std::byte[]> Store::decoded(const Part& part) const {
  auto values = std::make_unique<std::byte[]>(decoded_bytes(part));
  auto* const narrow = reinterpret_cast<float*>(values.get());
  trireme::decode(part.payload, part.count, narrow);
  if (schema_.dense[part.table].dtype == DType::kF64) {
    // From the last to the first: each f64 overwrites two f32.
    for (std::int64_t i = part.count; i-- > 0;) {
      const double wide = narrow[i];
      std::memcpy(values.get() + static_cast<std::size_t>(i) * sizeof wide, &wide, sizeof wide);
    }
  }
  return values;
}

void Store::prepare(std::span<const Message* const> pushes, const ReductionTree* tree) {
  const Message& first = *pushes.front();
  optimizer_->set_lr(first.lr);
  optimizer_->set_gradient_scale(first.scale);
  double divisor = first.divisor;
  if (divisor == 0) divisor = tree != nullptr ? tree->virtual_workers() : 1;
  row_update_ = {.lr = first.lr, .scale = first.scale / divisor, .clip_value = schema_.clip_value};
  prepare_dense(pushes, tree, divisor);
  prepare_rows(pushes);
}

void Store::update() {
  optimizer_->step();
  for (const auto& rows : sparse_) rows->update(row_update_);
}

void Store::prepare_dense(std::span<const Message* const> pushes, const ReductionTree* tree,
                          double divisor) {
  for (std::uint32_t table = 0; table < dense_.size(); ++table) {
    if (dense_[table].arrays.empty()) continue;
    Shard& shard = ranges_[dense_[table].shard];
    shard.gradient.clear();
    shard.tree = tree;
    shard.divisor = divisor;
    shard.has_gradient = false;
    bool all = true;
    for (std::size_t i = 0; i < pushes.size(); ++i) {
      const Part* part = gradient_of(*pushes[i], table);
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
      const Part* part = gradient_of(*push, table);
      if (part == nullptr) continue;
      gradients.push_back({keys_of(*part), reinterpret_cast<const float*>(rows_in(*part))});
    }
    sparse_[i]->prepare(gradients);
  }
}

std::size_t Store::bytes_of(const Part& part) const {
  const bool steps = part.array == kStepArray;
  const auto count = static_cast<std::size_t>(part.count);
  if (part.kind == PartKind::kReadRange) {
    return steps ? sizeof(std::int64_t) : count * size_of(schema_.dense[part.table].dtype);
  }
  const Rows& rows = rows_of(part);
  if (part.kind == PartKind::kReadKeys) {
    return static_cast<std::size_t>(
               std::clamp<std::int64_t>(rows.size() - part.first, 0, part.count)) *
           sizeof(std::uint64_t);
  }
  return count *
         (steps ? sizeof(std::int64_t) : static_cast<std::size_t>(rows.width()) * sizeof(float));
}

void Store::read(const Part& part, std::span<std::byte> out) const {
  const bool steps = part.array == kStepArray;
  if (part.kind == PartKind::kReadRange) {
    const Dense& dense = dense_of(part);
    if (steps) {
      const std::int64_t none = 0;
      std::memcpy(out.data(), dense.arrays.empty() ? &none : dense.steps.data, sizeof none);
    } else if (part.count > 0) {
      const Buffer values =
          dense.arrays[part.array].slice(part.first - dense.range.begin, part.count);
      std::memcpy(out.data(), values.data, values.bytes());
    }
    return;
  }
  const Rows& rows = rows_of(part);
  if (part.kind == PartKind::kReadKeys) {
    if (!out.empty()) std::memcpy(out.data(), rows.keys().data() + part.first, out.size());
  } else if (steps) {
    rows.read_steps(keys_of(part), reinterpret_cast<std::int64_t*>(out.data()));
  } else {
    rows.read(keys_of(part), part.array, reinterpret_cast<float*>(out.data()));
  }
}

void Store::reserve(const Part& part) {
  if (part.kind == PartKind::kRowValues) rows_of(part).reserve(keys_of(part));
}

void Store::write(const Part& part) {
  const bool steps = part.array == kStepArray;
  if (part.kind == PartKind::kRowValues) {
    Rows& rows = rows_of(part);
    if (steps) {
      rows.write_steps(keys_of(part), reinterpret_cast<const std::int64_t*>(rows_in(part)));
    } else {
      rows.write(keys_of(part), part.array, reinterpret_cast<const float*>(rows_in(part)));
    }
    return;
  }
  Dense& dense = dense_[part.table];
  if (steps) {
    if (!dense.arrays.empty())
      std::memcpy(dense.steps.data, part.payload.data(), dense.steps.bytes());
    return;
  }
  if (part.count > 0) {
    const Buffer to = dense.arrays[part.array].slice(part.first - dense.range.begin, part.count);
    std::memcpy(to.data, part.payload.data(), to.bytes());
  }
  if (part.array == 0 && part.count == dense.range.size()) dense.is_written = true;
}

bool Store::is_complete() const {
  return std::ranges::all_of(
      dense_, [](const Dense& dense) { return dense.arrays.empty() || dense.is_written; });
}

std::size_t Store::initial_bytes(const ModelSchema& schema, int shard, int shards) {
  // Of a table, in its schema, the store and the optimizer.
  constexpr std::size_t kTableBytes = 1024;
  const std::size_t arrays = 1 + make_optimizer(schema.optimizer, {})->state_arrays().size();
  // Of an optimizer of whole parameters: the sum of a gradient, and what muon computes with.
  const std::size_t scratch = needs_whole_parameters(schema.optimizer.name) ? 5 : 0;
  std::size_t longest = 0;
  std::size_t bytes = schema.dense.size() * kTableBytes +
                      schema.sparse.size() * (kTableBytes + Rows::empty_bytes());
  for (std::size_t i = 0; i < schema.dense.size(); ++i) {
    const DenseTable& table = schema.dense[i];
    const auto count = static_cast<std::size_t>(range_of(schema, i, shard, shards).size());
    longest = std::max(longest, count * size_of(table.dtype));
    // Of at most 2^46 elements: the product fits, the sum may not.
    if (__builtin_add_overflow(bytes, arrays * count * size_of(table.dtype), &bytes)) {
      return std::numeric_limits<std::size_t>::max();
    }
  }
  if (__builtin_add_overflow(bytes, scratch * longest, &bytes)) {
    return std::numeric_limits<std::size_t>::max();
  }
  return bytes;
}

std::size_t Store::bytes_with(std::span<const Message* const> messages) const {
  std::size_t bytes = initial_bytes(schema_, shard_, shards_);
  std::vector<std::uint64_t> keys;
  for (std::size_t i = 0; i < sparse_.size(); ++i) {
    keys.clear();
    for (const Message* message : messages) {
      for (const Part& part : message->parts) {
        const bool creates =
            part.kind == PartKind::kRowGradients || part.kind == PartKind::kRowValues;
        if (!creates || part.table != dense_.size() + i) continue;
        const std::span<const std::uint64_t> more = keys_of(part);
        keys.insert(keys.end(), more.begin(), more.end());
      }
    }
    bytes += keys.empty() ? sparse_[i]->bytes() : sparse_[i]->bytes_with(keys);
  }
  return bytes;
}

}  // namespace trireme::server
