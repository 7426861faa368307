// Checkpoints of a server: docs/format/parameter-server.md.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/formats/safetensors.h"
#include "trireme/server/store.h"

namespace trireme::server {

namespace {

constexpr const char* kSchema = "trireme.declaration";
constexpr const char* kVersion = "trireme.version";
constexpr std::int64_t kRowsAtATime = 4096;

// "fc1.weight.exp_avg[0:512]": array `array` of a table's range.
std::string name_of_range(const std::string& table, const std::string& array, Range range) {
  return fmt::format("{}{}{}[{}:{}]", table, array.empty() ? "" : ".", array, range.begin,
                     range.end);
}

std::string name_of_rows(const std::string& table, const std::string& what) {
  return table + "." + what;
}

std::string name_of_array(std::span<const Optimizer::StateArray> arrays, std::size_t index) {
  return index == 0 ? "" : arrays[index - 1].name;
}

// The range of "NAME[begin:end]"; empty unless `stored` is a range of `name`.
std::optional<Range> range_in(const std::string& stored, const std::string& name) {
  Range range;
  int used = 0;
  if (!stored.starts_with(name + "[")) return std::nullopt;
  if (std::sscanf(stored.c_str() + name.size(), "[%ld:%ld]%n", &range.begin, &range.end, &used) !=
          2 ||
      name.size() + static_cast<std::size_t>(used) != stored.size()) {
    return std::nullopt;
  }
  return range;
}

}  // namespace

void Store::save(const std::string& file, std::int64_t version) const {
  std::vector<NamedBuffer> tensors;
  std::vector<std::vector<float>> arrays;
  std::vector<std::vector<std::int64_t>> integers;
  for (std::size_t i = 0; i < dense_.size(); ++i) {
    const Dense& dense = dense_[i];
    if (dense.arrays.empty()) continue;
    const std::string& name = schema_.dense[i].name;
    for (std::size_t index = 0; index < dense.arrays.size(); ++index) {
      tensors.push_back(
          {name_of_range(name, name_of_array(optimizer_->state_arrays(dense.shard), index),
                         dense.range),
           {dense.range.size()},
           dense.arrays[index]});
    }
    tensors.push_back({name_of_range(name, "step", dense.range), {1}, dense.steps});
  }
  for (std::size_t i = 0; i < sparse_.size(); ++i) {
    const Rows& rows = *sparse_[i];
    const std::string& name = schema_.sparse[i].name;
    const auto optimizer = make_optimizer(schema_.sparse[i].optimizer, {});
    const std::span<const std::uint64_t> keys = rows.keys();
    auto& bits = integers.emplace_back(keys.size());
    if (!keys.empty()) std::memcpy(bits.data(), keys.data(), keys.size_bytes());
    tensors.push_back({name_of_rows(name, "keys"), {rows.size()}, buffer_of(std::span(bits))});
    auto& steps = integers.emplace_back(keys.size());
    rows.read_steps(keys, steps.data());
    tensors.push_back({name_of_rows(name, "steps"), {rows.size()}, buffer_of(std::span(steps))});
    for (int index = 0; index < rows.arrays(); ++index) {
      auto& array = arrays.emplace_back(static_cast<std::size_t>(rows.size() * rows.width()));
      rows.read(keys, index, array.data());
      tensors.push_back(
          {name_of_rows(name, index == 0
                                  ? "rows"
                                  : "rows." + name_of_array(optimizer->state_arrays(),
                                                            static_cast<std::size_t>(index))),
           {rows.size(), rows.width()},
           buffer_of(std::span(array))});
    }
  }
  write_safetensors(
      file, tensors,
      {{kSchema, to_json(schema_)}, {kVersion, std::to_string(version)}, {"format", "pt"}});
}

void Store::restore_dense(const SafetensorsFile& file, std::size_t table) {
  Dense& dense = dense_[table];
  if (dense.arrays.empty()) return;
  const std::string& name = schema_.dense[table].name;
  for (std::size_t index = 0; index <= dense.arrays.size(); ++index) {
    const bool steps = index == dense.arrays.size();
    const std::string array =
        steps ? "step" : name_of_array(optimizer_->state_arrays(dense.shard), index);
    const std::string stored_name = array.empty() ? name : name + "." + array;
    for (const TensorInfo& info : file.tensors()) {
      const auto theirs = range_in(info.name, stored_name);
      if (!theirs) continue;
      const Range both{std::max(theirs->begin, dense.range.begin),
                       std::min(theirs->end, dense.range.end)};
      if (both.begin >= both.end) continue;
      if (steps) {
        file.read(info.name, dense.steps);
      } else {
        file.read(info.name, both.begin - theirs->begin,
                  dense.arrays[index].slice(both.begin - dense.range.begin, both.size()));
        if (index == 0) dense.restored += both.size();
      }
    }
  }
  dense.is_written = dense.restored == dense.range.size();
}

void Store::restore_rows(const SafetensorsFile& file, std::size_t table) {
  Rows& rows = *sparse_[table];
  const std::string& name = schema_.sparse[table].name;
  const auto optimizer = make_optimizer(schema_.sparse[table].optimizer, {});
  const std::int64_t count = file.info(name_of_rows(name, "keys")).count;
  for (std::int64_t first = 0; first < count; first += kRowsAtATime) {
    const auto some = static_cast<std::size_t>(std::min(kRowsAtATime, count - first));
    std::vector<std::int64_t> bits(some);
    std::vector<std::int64_t> steps(some);
    file.read(name_of_rows(name, "keys"), first, buffer_of(std::span(bits)));
    file.read(name_of_rows(name, "steps"), first, buffer_of(std::span(steps)));
    std::vector<std::uint64_t> mine;
    std::vector<std::int64_t> my_steps;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < some; ++i) {
      const auto key = static_cast<std::uint64_t>(bits[i]);
      if (shard_of(key, shards_) != shard_) continue;
      mine.push_back(key);
      my_steps.push_back(steps[i]);
      places.push_back(i);
    }
    const auto width = static_cast<std::size_t>(rows.width());
    std::vector<float> all(some * width);
    std::vector<float> values(mine.size() * width);
    for (int index = 0; index < rows.arrays(); ++index) {
      file.read(
          name_of_rows(name, index == 0 ? "rows"
                                        : "rows." + name_of_array(optimizer->state_arrays(),
                                                                  static_cast<std::size_t>(index))),
          first * rows.width(), buffer_of(std::span(all)));
      for (std::size_t i = 0; i < mine.size(); ++i) {
        std::copy_n(all.data() + places[i] * width, width, values.data() + i * width);
      }
      rows.write(mine, index, values.data());
    }
    rows.write_steps(mine, my_steps.data());
  }
}

std::int64_t Store::restore(const std::string& path) {
  const SafetensorsFile file(path);
  const std::string differs = difference(schema_, schema_in(file, path));
  if (!differs.empty()) {
    throw DataError(fmt::format("{}: holds another model: {}", path, differs));
  }
  for (std::size_t i = 0; i < dense_.size(); ++i) restore_dense(file, i);
  for (std::size_t i = 0; i < sparse_.size(); ++i) restore_rows(file, i);
  return std::stoll(file.metadata().at(kVersion));
}

ModelSchema Store::schema_in(const SafetensorsFile& file, const std::string& path) {
  const auto found = file.metadata().find(kSchema);
  if (found == file.metadata().end() || !file.metadata().contains(kVersion)) {
    throw DataError(fmt::format("{}: must be a checkpoint that a server wrote", path));
  }
  return parse_schema(found->second);
}

}  // namespace trireme::server
