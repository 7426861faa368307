#include "trireme/server/model_schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <set>
#include <type_traits>
#include <variant>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/formats/json_error.h"
#include "trireme/formats/json_limits.h"

namespace trireme::server {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kGrain = 16;  // elements: a cache line of f32
constexpr int kMaxWorkers = 65536;
constexpr std::int64_t kMaxVirtualWorkers = 1 << 20;
constexpr std::int64_t kMaxRowWidth = 1 << 20;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 46;  // more cannot be addressed
constexpr std::size_t kMaxTables = 1 << 16;
// Of kMaxTables sparse tables, each with the options of its optimizer, and as many groups.
constexpr JsonLimits kSchemaLimits{.bytes = std::size_t{64} << 20, .depth = 6, .values = 4 << 20};

// The options that a schema has: each push has the learning rate.
std::vector<OptimizerOption> options_in_schema(std::string_view optimizer) {
  std::vector<OptimizerOption> options;
  for (const OptimizerOption& option : options_of(optimizer)) {
    if (option.name != "lr") options.push_back(option);
  }
  return options;
}

Json json_of(const OptimizerOptions& options) {
  refuse_other_options(options);
  const OptimizerOptions all = with_defaults(options);
  Json json = {{"name", all.name}};
  for (const OptimizerOption& option : options_in_schema(all.name)) {
    std::visit([&](auto field) { json[std::string(option.name)] = *(all.*field); }, option.field);
  }
  return json;
}

// Earlier versions wrote the options of all optimizers, but neither eps nor weight_decay if they
// were unset.
OptimizerOptions optimizer_of(const Json& json) {
  OptimizerOptions options{.name = json.at("name").get<std::string>()};
  for (const OptimizerOption& option : options_in_schema(options.name)) {
    const auto found = json.find(std::string(option.name));
    if (found == json.end()) continue;
    std::visit(
        [&](auto field) {
          using Value = typename std::decay_t<decltype(options.*field)>::value_type;
          options.*field = found->get<Value>();
        },
        option.field);
  }
  return options;
}

Json json_of(const ParameterGroup& group) {
  Json json = {
      {"match", group.match}, {"lr_factor", group.lr_factor}, {"trainable", group.trainable}};
  if (group.weight_decay) json["weight_decay"] = *group.weight_decay;
  if (group.betas) json["betas"] = *group.betas;
  if (!group.rule.empty()) json["rule"] = group.rule;
  return json;
}

ParameterGroup group_of(const Json& json) {
  ParameterGroup group;
  json.at("match").get_to(group.match);
  json.at("lr_factor").get_to(group.lr_factor);
  json.at("trainable").get_to(group.trainable);
  if (json.contains("weight_decay")) group.weight_decay = json["weight_decay"].get<double>();
  if (json.contains("betas")) group.betas = json["betas"].get<std::array<double, 2>>();
  if (json.contains("rule")) json["rule"].get_to(group.rule);
  return group;
}

void require(bool holds, const std::string& message) {
  if (!holds) throw UsageError("model schema: " + message);
}

void check_names(const ModelSchema& schema) {
  std::set<std::string> names;
  const auto add = [&](const std::string& name) {
    require(!name.empty(), "a table must have a name, got \"\"");
    require(names.insert(name).second, fmt::format("two tables are called {}", name));
  };
  for (const DenseTable& table : schema.dense) add(table.name);
  for (const SparseTable& table : schema.sparse) add(table.name);
}

void check_consistency(const Consistency& c) {
  require(c.workers >= 1 && c.workers <= kMaxWorkers,
          fmt::format("workers must be 1 to {}, got {}", kMaxWorkers, c.workers));
  require(c.staleness >= 0, fmt::format("staleness must be 0 or more, got {}", c.staleness));
  require(c.backup_workers >= 0 && c.backup_workers < c.workers,
          fmt::format("backup_workers must leave one of the {} workers to be waited for, got {}",
                      c.workers, c.backup_workers));
  require(
      c.virtual_workers.empty() || c.virtual_workers.size() == static_cast<std::size_t>(c.workers),
      fmt::format("virtual_workers must be a number for each of the {} workers, got {}", c.workers,
                  c.virtual_workers.size()));
  std::int64_t all = 0;
  for (const int count : c.virtual_workers) {
    require(count >= 1, fmt::format("a worker must have 1 virtual worker or more, got {}", count));
    all += count;
  }
  require(all <= kMaxVirtualWorkers,
          fmt::format("there may be {} virtual workers, got {}", kMaxVirtualWorkers, all));
}

// As a store makes it, without the values.
void check_optimizer(const ModelSchema& schema) {
  std::vector<Shard> shards;
  if (needs_whole_parameters(schema.optimizer.name)) {
    for (const DenseTable& table : schema.dense) {
      require(!table.shape.empty(), fmt::format("{} must have a shape for the optimizer {}",
                                                table.name, schema.optimizer.name));
      shards.push_back(
          {.name = table.name, .region = Region(table.shape), .values = {nullptr, 0, table.dtype}});
    }
  }
  make_optimizer(schema.optimizer, shards)->set_groups(schema.groups);
}

}  // namespace

void check(const ModelSchema& schema) {
  require(schema.dense.size() + schema.sparse.size() <= kMaxTables,
          fmt::format("there may be {} tables, got {}", kMaxTables,
                      schema.dense.size() + schema.sparse.size()));
  check_names(schema);
  for (const DenseTable& table : schema.dense) {
    require(table.count >= 0 && table.count <= kMaxElements,
            fmt::format("{} must hold 0 to 2^46 elements, got {}", table.name, table.count));
    require(table.dtype == DType::kF32 || table.dtype == DType::kF64,
            fmt::format("{} must be f32 or f64, got {}", table.name, name_of(table.dtype)));
    require(table.shape.empty() || elements_of(table.shape) == table.count,
            fmt::format("{} must have the {} elements of its shape {}, got {}", table.name,
                        elements_of(table.shape), table.shape, table.count));
  }
  for (const SparseTable& table : schema.sparse) {
    require(table.width >= 1 && table.width <= kMaxRowWidth,
            fmt::format("{} must have rows of 1 to {} values, got {}", table.name, kMaxRowWidth,
                        table.width));
    require(table.optimizer.groups.empty(),
            fmt::format("{}: the optimizer of a sparse table has no groups", table.name));
    require(
        !needs_whole_parameters(table.optimizer.name),
        fmt::format("{}: the optimizer of a sparse table must update rows alone, and {} updates "
                    "whole parameters; use adamw or adagrad",
                    table.name, table.optimizer.name));
    make_optimizer(table.optimizer, {});
  }
  require(schema.optimizer.groups.empty(), "groups of parameters are declared by name");
  require(schema.groups.size() <= kMaxTables,
          fmt::format("there may be {} groups, got {}", kMaxTables, schema.groups.size()));
  check_optimizer(schema);
  check_consistency(schema.consistency);
}

std::string to_json(const ModelSchema& schema) {
  const Consistency& c = schema.consistency;
  Json json = {{"dense", Json::array()},
               {"sparse", Json::array()},
               {"optimizer", json_of(schema.optimizer)},
               {"clip_value", schema.clip_value},
               {"consistency",
                {{"mode", static_cast<int>(c.mode)},
                 {"workers", c.workers},
                 {"staleness", c.staleness},
                 {"backup_workers", c.backup_workers},
                 {"virtual_workers", c.virtual_workers}}}};
  if (!schema.groups.empty()) json["groups"] = Json::array();
  for (const ParameterGroup& group : schema.groups) json["groups"].push_back(json_of(group));
  for (const DenseTable& table : schema.dense) {
    Json one = {{"name", table.name}, {"count", table.count}, {"f64", table.dtype == DType::kF64}};
    if (!table.shape.empty()) one["shape"] = table.shape;
    json["dense"].push_back(std::move(one));
  }
  for (const SparseTable& table : schema.sparse) {
    json["sparse"].push_back({{"name", table.name},
                              {"width", table.width},
                              {"init", static_cast<int>(table.init.kind)},
                              {"scale", table.init.scale},
                              {"seed", table.init.seed},
                              {"optimizer", json_of(table.optimizer)}});
  }
  return json.dump();
}

ModelSchema parse_schema(std::string_view text) {
  check_json_limits(text, kSchemaLimits, "model schema");
  ModelSchema schema;
  try {
    const Json json = Json::parse(text);
    for (const Json& table : json.at("dense")) {
      const DType dtype = table.at("f64").get<bool>() ? DType::kF64 : DType::kF32;
      schema.dense.push_back(
          {table.at("name").get<std::string>(), table.at("count").get<std::int64_t>(), dtype});
      if (table.contains("shape")) table["shape"].get_to(schema.dense.back().shape);
    }
    for (const Json& table : json.at("sparse")) {
      const int kind = table.at("init").get<int>();
      if (kind < 0 || kind > static_cast<int>(RowInit::Kind::kNormal)) {
        throw DataError(fmt::format("model schema: no initialization of rows has number {}", kind));
      }
      schema.sparse.push_back({table.at("name").get<std::string>(),
                               table.at("width").get<std::int64_t>(),
                               {static_cast<RowInit::Kind>(kind), table.at("scale").get<double>(),
                                table.at("seed").get<std::uint64_t>()},
                               optimizer_of(table.at("optimizer"))});
    }
    schema.optimizer = optimizer_of(json.at("optimizer"));
    if (json.contains("groups")) {
      for (const Json& group : json["groups"]) schema.groups.push_back(group_of(group));
    }
    schema.clip_value = json.at("clip_value").get<double>();
    const Json& c = json.at("consistency");
    const int mode = c.at("mode").get<int>();
    if (mode < 0 || mode > static_cast<int>(Consistency::Mode::kAsynchronous)) {
      throw DataError(fmt::format("model schema: no mode has number {}", mode));
    }
    schema.consistency = {static_cast<Consistency::Mode>(mode), c.at("workers").get<int>(),
                          c.at("staleness").get<int>(), c.at("backup_workers").get<int>(),
                          c.at("virtual_workers").get<std::vector<int>>()};
    check(schema);
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("model schema: not what a worker of this version writes: {}",
                                reason_of(error)));
  } catch (const UsageError& error) {
    throw DataError(error.what());
  }
  return schema;
}

std::string difference(const ModelSchema& mine, const ModelSchema& theirs) {
  const auto both = [](const std::string& what, const auto& here, const auto& there) {
    return fmt::format("{} {} here and {} on the servers", what, here, there);
  };
  const auto name_at = [](const auto& tables, std::size_t i) {
    return i < tables.size() ? tables[i].name : std::string("nothing");
  };
  for (std::size_t i = 0; i < std::max(mine.dense.size(), theirs.dense.size()); ++i) {
    if (name_at(mine.dense, i) != name_at(theirs.dense, i)) {
      return both(fmt::format("tensor {} is", i), name_at(mine.dense, i), name_at(theirs.dense, i));
    }
    const DenseTable& a = mine.dense[i];
    const DenseTable& b = theirs.dense[i];
    if (a.count != b.count) return both(a.name + " has elements:", a.count, b.count);
    if (a.dtype != b.dtype) return both(a.name + " is", name_of(a.dtype), name_of(b.dtype));
  }
  for (std::size_t i = 0; i < std::max(mine.sparse.size(), theirs.sparse.size()); ++i) {
    if (name_at(mine.sparse, i) != name_at(theirs.sparse, i)) {
      return both(fmt::format("sparse table {} is", i), name_at(mine.sparse, i),
                  name_at(theirs.sparse, i));
    }
    const SparseTable& a = mine.sparse[i];
    const SparseTable& b = theirs.sparse[i];
    if (a.width != b.width) return both(a.name + " has rows of", a.width, b.width);
  }
  const Json here = Json::parse(to_json(mine)).flatten();
  const Json there = Json::parse(to_json(theirs)).flatten();
  for (const auto& [key, value] : here.items()) {
    if (!there.contains(key)) return both(key.substr(1) + " is", value.dump(), "nothing");
    if (there[key] != value) return both(key.substr(1) + " is", value.dump(), there[key].dump());
  }
  for (const auto& [key, value] : there.items()) {
    if (!here.contains(key)) return both(key.substr(1) + " is", "nothing", value.dump());
  }
  return "";
}

Range range_of(const ModelSchema& schema, std::size_t table, int shard, int shards) {
  const std::int64_t count = schema.dense[table].count;
  if (!needs_whole_parameters(schema.optimizer.name)) return range_of(count, table, shard, shards);
  const bool is_here = table % static_cast<std::size_t>(shards) == static_cast<std::size_t>(shard);
  return {0, is_here ? count : 0};
}

Range range_of(std::int64_t count, std::size_t table, int shard, int shards) {
  const auto rotated = (static_cast<std::size_t>(shard) + table) % static_cast<std::size_t>(shards);
  return partition_aligned(count, shards, static_cast<std::int64_t>(rotated), kGrain);
}

int shard_of(std::uint64_t key, int shards) {
  // The high half: the low bits place the row in the hash table of its server.
  const std::uint64_t high = mix_bits(key) >> 32;
  return static_cast<int>((high * static_cast<std::uint64_t>(shards)) >> 32);
}

}  // namespace trireme::server
