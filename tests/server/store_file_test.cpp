// Checkpoints of servers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <numeric>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "tests/formats/temporary_folder.h"
#include "tests/server/zmq_servers.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/server/checkpoint_files.h"
#include "trireme/server/server.h"

namespace trireme::test {
namespace {

using server::Consistency;
using server::Message;
using server::ModelSchema;
using server::Part;
using server::PartKind;
using server::range_of;
using server::Store;
using testing::HasSubstr;

ModelSchema schema() {
  return {.dense = {{"w", 1000}, {"b", 7}, {"none", 0}, {"wide", 300, DType::kF64}},
          .sparse = {{.name = "rows",
                      .width = 5,
                      .init = {.kind = server::RowInit::Kind::kNormal, .scale = 0.1, .seed = 3},
                      .optimizer = {.name = "adam"}}},
          .optimizer = {.name = "adam"},
          .consistency = {}};
}

/// Everything that servers hold, put together: by table, slot and element or key.
struct Contents {
  std::map<std::string, std::vector<std::byte>> dense;
  std::map<std::string, std::map<std::uint64_t, std::vector<float>>> rows;
  std::map<std::uint64_t, std::int64_t> row_steps;

  bool operator==(const Contents&) const = default;
};

void read(const Store& store, Contents& all) {
  const ModelSchema& model = store.schema();
  for (std::uint32_t table = 0; table < model.dense.size(); ++table) {
    const server::DenseTable& declared = model.dense[table];
    const Range range = range_of(declared.count, table, store.shard(), store.shards());
    for (const std::uint8_t slot : {0, 1, 2, static_cast<int>(server::kStepArray)}) {
      if (range.size() == 0) continue;
      const Part part{.table = table,
                      .kind = PartKind::kReadRange,
                      .array = slot,
                      .first = range.begin,
                      .count = range.size()};
      std::vector<std::byte> bytes(store.bytes_of(part));
      store.read(part, bytes);
      auto& array = all.dense[declared.name + std::to_string(slot)];
      if (slot == server::kStepArray) {
        array = bytes;
        continue;
      }
      const std::size_t element = size_of(declared.dtype);
      array.resize(static_cast<std::size_t>(declared.count) * element);
      std::memcpy(array.data() + static_cast<std::size_t>(range.begin) * element, bytes.data(),
                  bytes.size());
    }
  }
  const auto table = static_cast<std::uint32_t>(model.dense.size());
  const Part ask{.table = table, .kind = PartKind::kReadKeys, .count = 1 << 20};
  std::vector<std::uint64_t> keys(store.bytes_of(ask) / sizeof(std::uint64_t));
  store.read(ask, std::as_writable_bytes(std::span(keys)));
  for (const std::uint64_t key : keys) {
    for (const std::uint8_t slot : {0, 1, 2}) {
      const Part part{.table = table,
                      .kind = PartKind::kReadRows,
                      .array = slot,
                      .count = 1,
                      .payload = std::as_bytes(std::span(&key, 1))};
      std::vector<float> row(5);
      store.read(part, std::as_writable_bytes(std::span(row)));
      all.rows[std::to_string(slot)][key] = row;
    }
    const Part part{.table = table,
                    .kind = PartKind::kReadRows,
                    .array = server::kStepArray,
                    .count = 1,
                    .payload = std::as_bytes(std::span(&key, 1))};
    store.read(part, std::as_writable_bytes(std::span(&all.row_steps[key], 1)));
  }
}

/// Values of a few random pushes.
void train(Store& store) {
  const ModelSchema& model = store.schema();
  const CounterRandom random(17);
  const auto rows = static_cast<std::uint32_t>(model.dense.size());
  for (int step = 0; step < 4; ++step) {
    Message push{.type = server::MessageType::kPush, .lr = 0.1};
    std::vector<std::vector<double>> memory;
    for (std::uint32_t table = 0; table < rows; ++table) {
      const server::DenseTable& declared = model.dense[table];
      const Range range = range_of(declared.count, table, store.shard(), store.shards());
      auto& values = memory.emplace_back(static_cast<std::size_t>(range.size()));
      for (std::int64_t i = 0; i < range.size(); ++i) {
        const double drawn = random.normal(static_cast<std::uint64_t>(
            step * 100000 + static_cast<int>(table) * 10000 + range.begin + i));
        if (declared.dtype == DType::kF64) {
          values[static_cast<std::size_t>(i)] = drawn;
        } else {
          reinterpret_cast<float*>(values.data())[i] = static_cast<float>(drawn);
        }
      }
      push.parts.push_back({.table = table,
                            .kind = PartKind::kGradient,
                            .first = range.begin,
                            .count = range.size(),
                            .payload = std::as_bytes(std::span(values))
                                           .first(static_cast<std::size_t>(range.size()) *
                                                  size_of(declared.dtype))});
    }
    std::vector<std::uint64_t> keys;
    for (std::uint64_t key = 0; key < 500; key += 1 + static_cast<std::uint64_t>(step)) {
      const std::uint64_t spread = key * 0x9e3779b97f4a7c15ull;
      if (server::shard_of(spread, store.shards()) == store.shard()) keys.push_back(spread);
    }
    std::vector<std::byte> payload(keys.size() * (8 + 5 * sizeof(float)));
    std::memcpy(payload.data(), keys.data(), keys.size() * 8);
    auto* gradients = reinterpret_cast<float*>(payload.data() + keys.size() * 8);
    for (std::size_t i = 0; i < keys.size() * 5; ++i) {
      gradients[i] = static_cast<float>(random.normal(keys[i / 5] + i % 5));
    }
    push.parts.push_back({.table = rows,
                          .kind = PartKind::kRowGradients,
                          .count = std::ssize(keys),
                          .payload = payload});
    store.check_gradients(push, 1);
    const Message* const one = &push;
    store.prepare({&one, 1}, nullptr);
    store.update();
  }
}

void fill(Store& store) {
  const ModelSchema& model = store.schema();
  for (std::uint32_t table = 0; table < model.dense.size(); ++table) {
    const server::DenseTable& declared = model.dense[table];
    const Range range = range_of(declared.count, table, store.shard(), store.shards());
    const std::vector<double> zeros(static_cast<std::size_t>(range.size()));
    store.write(
        {.table = table,
         .kind = PartKind::kValues,
         .first = range.begin,
         .count = range.size(),
         .payload = std::as_bytes(std::span(zeros))
                        .first(static_cast<std::size_t>(range.size()) * size_of(declared.dtype))});
  }
}

Contents written_by(int shards, const TemporaryFolder& folder) {
  Contents contents;
  for (int shard = 0; shard < shards; ++shard) {
    Store store(schema(), shard, shards);
    fill(store);
    train(store);
    store.save(server::checkpoint_file(folder.path(), shard, shards).string(), 4);
    read(store, contents);
  }
  return contents;
}

TEST(ServerCheckpoint, OfAnyNumberOfServersIsRestoredByAnyOther) {
  for (const int before : {1, 2, 3}) {
    TemporaryFolder folder;
    const Contents wanted = written_by(before, folder);
    ASSERT_EQ(wanted.rows.at("0").size(), 500U);
    for (const int after : {1, 2, 3, 4}) {
      Contents got;
      for (int shard = 0; shard < after; ++shard) {
        server::Server server({.shard = shard, .shards = after});
        server.restore(server::checkpoint_files(folder.path()));
        EXPECT_EQ(server.version(), 4);
        read(*server.store(), got);
      }
      EXPECT_TRUE(got == wanted) << before << " to " << after;
    }
  }
}

TEST(ServerCheckpoint, IsRejectedIfAPartIsMissingOrDamaged) {
  TemporaryFolder folder;
  written_by(2, folder);
  const std::string first = server::checkpoint_file(folder.path(), 0, 2).string();
  EXPECT_THAT(message_of<DataError>([&] { server::Server({}).restore({first}); }),
              HasSubstr("do not hold all of the model"));
  std::filesystem::remove(server::checkpoint_file(folder.path(), 1, 2));
  EXPECT_THAT(message_of<DataError>([&] { server::checkpoint_files(folder.path()); }),
              HasSubstr("no complete checkpoint"));
  std::filesystem::resize_file(first, std::filesystem::file_size(first) - 1);
  EXPECT_THROW(server::Server({}).restore({first}), DataError);
}

TEST(ServerCheckpoint, IsTheNewestCompleteOneOfAFolder) {
  TemporaryFolder folder;
  const auto touch = [&](int shard, int shards, int seconds) {
    const auto file = server::checkpoint_file(folder.path(), shard, shards);
    folder.write(file.filename().string(), "x");
    std::filesystem::last_write_time(
        file, std::filesystem::file_time_type(std::chrono::seconds(1000 + seconds)));
  };
  touch(0, 2, 0);
  touch(1, 2, 1);
  for (int shard = 0; shard < 3; ++shard) touch(shard, 3, 5);
  touch(0, 4, 9);  // and no other of four
  folder.write("shard-0-of-1.safetensors.tmp", "x");
  EXPECT_THAT(server::checkpoint_files(folder.path()),
              testing::ElementsAre(HasSubstr("shard-0-of-3."), HasSubstr("shard-1-of-3."),
                                   HasSubstr("shard-2-of-3.")));
}

}  // namespace
}  // namespace trireme::test
