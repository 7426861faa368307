// trireme keys new, serve and fetch, as they are run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "tests/cli/program.h"
#include "trireme/base/files.h"
#include "trireme/formats/safetensors.h"
#include "trireme/server/zmq/connect_servers.h"

namespace trireme::test {
namespace {

using server::Gradient;
using server::TableValues;
using testing::HasSubstr;

/// What the only program of a folder writes to, once it has begun.
std::filesystem::path output_in(const std::filesystem::path& folder) {
  for (int i = 0; i < 2000; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().filename().string().starts_with("stdout-")) return entry.path();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return folder / "stdout";
}

/// `trireme serve` in folders of their own, with keys, on free ports.
class Served : public testing::Test {
 protected:
  Served() {
    for (const char* name : {"keys/server", "clients/worker"}) {
      const std::filesystem::path path(name);
      const Ended ended = run_program(folder_.path(), {"keys", "new", path.parent_path().string(),
                                                       "--name", path.filename().string()});
      EXPECT_EQ(ended.exit_code, 0) << ended.err;
    }
  }

  void start(int shards, const std::vector<std::string>& more = {}) {
    for (int shard = 0; shard < shards; ++shard) {
      const auto folder =
          folder_ / ("run-" + std::to_string(++runs_) + "-" + std::to_string(shard));
      std::filesystem::create_directory(folder);
      std::vector<std::string> arguments = {"serve",
                                            "--bind",
                                            "tcp://127.0.0.1:0",
                                            "--shard",
                                            std::to_string(shard) + "/" + std::to_string(shards),
                                            "--secret",
                                            folder_ / "keys/server.secret",
                                            "--clients",
                                            folder_ / "clients"};
      arguments.insert(arguments.end(), more.begin(), more.end());
      servers_.push_back(std::make_unique<Program>(folder, arguments));
      const auto output = output_in(folder);
      servers_.back()->wait_for(output, "public key");
      const std::string said = read_file(output);
      const auto at = said.find("tcp://");
      addresses_.push_back(said.substr(at, said.find(',', at) - at));
    }
  }

  server::ServersOptions worker() const {
    return {.addresses = addresses_,
            .secret_key = folder_ / "clients/worker.secret",
            .server_keys = {folder_ / "keys/server.key"}};
  }

  Ended fetch(const std::vector<std::string>& more) {
    std::string all;
    for (const std::string& address : addresses_) all += (all.empty() ? "" : ",") + address;
    std::vector<std::string> arguments = {"fetch",
                                          "--servers",
                                          all,
                                          "--secret",
                                          folder_ / "clients/worker.secret",
                                          "--server-key",
                                          folder_ / "keys/server.key"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(folder_.path(), arguments);
  }

  /// Asks all servers to stop and returns how they ended.
  std::vector<Ended> stop() {
    std::vector<Ended> ends;
    for (const auto& server : servers_) ::kill(server->pid(), SIGTERM);
    for (const auto& server : servers_) ends.push_back(server->wait());
    servers_.clear();
    addresses_.clear();
    return ends;
  }

  TemporaryFolder folder_;
  std::vector<std::unique_ptr<Program>> servers_;
  std::vector<std::string> addresses_;
  int runs_ = 0;
};

const server::ModelSchema kModel = {
    .dense = {{"w", 100}},
    .sparse = {{.name = "users", .width = 2, .init = {}, .optimizer = {}}},
    .optimizer = {},
    .clip_value = 0,
    .consistency = {}};

/// 0, 1, 2, ... in w, and (17, 34) in row 17.
std::unique_ptr<server::Client> trained(const server::ServersOptions& options) {
  auto client = server::connect_servers(options);
  client->join(kModel);
  std::vector<float> values(100);
  std::iota(values.begin(), values.end(), 0.0F);
  client->store(std::vector<TableValues>{{"w", buffer_of(std::span(values)), {}}});
  std::vector<float> row = {-17.0F, -34.0F};
  const std::uint64_t key = 17;
  client->push(std::vector<Gradient>{{"users", buffer_of(std::span(row)), {&key, 1}}}, {.lr = 1});
  return client;
}

TEST(KeysNew, MakesAPairAndOverwritesNone) {
  TemporaryFolder folder;
  const std::vector<std::string> arguments = {"keys", "new", "keys", "--name", "me"};
  ASSERT_EQ(run_program(folder.path(), arguments).exit_code, 0);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "keys/me.secret").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600);
  const std::string secret = read_file(folder / "keys/me.secret");
  EXPECT_EQ(secret.size(), 41U);
  EXPECT_EQ(read_file(folder / "keys/me.key").size(), 41U);
  const Ended again = run_program(folder.path(), arguments);
  EXPECT_EQ(again.exit_code, 3);
  EXPECT_THAT(again.err, HasSubstr("keys are never overwritten"));
  EXPECT_EQ(read_file(folder / "keys/me.secret"), secret);
  EXPECT_THAT(run_program(folder.path(), {"keys", "new", "keys", "--name", "../me"}).err,
              HasSubstr("a name has letters"));
  EXPECT_THAT(run_program(folder.path(), {"keys"}).out, HasSubstr("optimizer.lr"));
}

TEST(Serve, ListensBeyondThisHostWithKeysOnly) {
  TemporaryFolder folder;
  const Ended open = run_program(folder.path(), {"serve", "--bind", "tcp://0.0.0.0:0"});
  EXPECT_EQ(open.exit_code, 2);
  EXPECT_THAT(open.err, HasSubstr("does not listen on tcp://0.0.0.0:0 without keys"));
  const Ended shard =
      run_program(folder.path(), {"serve", "--bind", "tcp://127.0.0.1:0", "--shard", "4/4"});
  EXPECT_EQ(shard.exit_code, 2);
  EXPECT_THAT(shard.err, HasSubstr("--shard must be NUMBER/COUNT"));
}

TEST_F(Served, EndsWhenAllWorkersHaveLeft) {
  start(2);
  trained(worker())->leave();
  for (const auto& server : servers_) {
    const Ended ended = server->wait();
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    EXPECT_THAT(ended.out, testing::AllOf(HasSubstr("worker 0 has joined with the key of worker"),
                                          HasSubstr("worker 0 has left"),
                                          HasSubstr("all workers have left, after 1 update")));
  }
}

TEST_F(Served, IsFetchedByAnyProgramThatIsLetIn) {
  start(2);
  const auto client = trained(worker());
  const Ended row = fetch({"--table", "users", "--key", "17", "--json"});
  ASSERT_EQ(row.exit_code, 0) << row.err;
  const auto json = nlohmann::json::parse(row.out);
  EXPECT_EQ(json["version"], 1);
  EXPECT_EQ(json["values"], (std::vector<float>{17, 34}));
  const Ended model = fetch({"--output", "model.safetensors"});
  ASSERT_EQ(model.exit_code, 0) << model.err;
  EXPECT_THAT(model.out, HasSubstr("after 1 update"));
  const SafetensorsFile file(folder_ / "model.safetensors");
  std::vector<float> values(100);
  file.read("w", buffer_of(std::span(values)));
  EXPECT_EQ(values[99], 99);
  EXPECT_EQ(file.info("users.rows").shape, (std::vector<std::int64_t>{1, 2}));
  EXPECT_THAT(fetch({"--table", "usres", "--key", "1"}).err, HasSubstr("no table of rows"));
}

TEST_F(Served, WritesItsCheckpointWhenStoppedAndGoesOnWithAnotherNumberOfServers) {
  const std::vector<std::string> kept = {"--checkpoint", folder_ / "kept"};
  start(2, kept);
  {
    server::ServersOptions options = worker();
    options.lost_after = std::chrono::seconds(1);
    const auto client = trained(options);
    for (const Ended& ended : stop()) {
      EXPECT_EQ(ended.exit_code, 128 + SIGTERM);
      EXPECT_THAT(ended.out, HasSubstr("continue with `trireme serve --restore`"));
    }
    EXPECT_ANY_THROW(client->leave());
  }
  start(3, {"--checkpoint", folder_ / "kept", "--restore"});
  const Ended row = fetch({"--table", "users", "--key", "17"});
  EXPECT_THAT(row.out, HasSubstr("users[17] after 1 update: 17 34")) << row.err;
  const auto client = server::connect_servers(worker());
  client->join(kModel);
  EXPECT_TRUE(client->servers_have_values());
  std::vector<float> values(100);
  client->pull(std::vector<TableValues>{{"w", buffer_of(std::span(values)), {}}});
  EXPECT_EQ(values[99], 99);
}

/// `trireme train` on two ranks whose servers are `addresses`.
std::vector<std::string> training(const std::vector<std::string>& addresses,
                                  const std::filesystem::path& keys) {
  std::string servers;
  for (const std::string& address : addresses) servers += ",\"" + address + "\"";
  return {"train",
          "-n",
          "2",
          "--json",
          "data.samples=600",
          "data.features_count=7",
          "data.holdout=0.1",
          "training.global_batch=24",
          "training.threads=1",
          "training.steps=6000",
          "optimizer.name=adam",
          "optimizer.lr=0.02",
          "metrics.every_steps=5",
          "communication.mode=asynchronous",
          "communication.servers=[" + servers.substr(1) + "]",
          "communication.secret_key=" + (keys / "clients/worker.secret").string(),
          "communication.server_keys=[\"" + (keys / "keys/server.key").string() + "\"]",
          "run.directory=run"};
}

TEST_F(Served, TrainsOnWithTheBackupOfAServerThatIsKilled) {
  std::filesystem::copy(folder_ / "keys/server.key", folder_ / "clients");
  start(1, {"--standby"});
  start(1, {"--backup", addresses_[0], "--backup-key", folder_ / "keys/server.key"});
  std::vector<std::string> arguments = training({addresses_[1], addresses_[0]}, folder_.path());
  arguments.emplace_back("communication.replicas=1");
  Program train(folder_.path(), arguments);
  train.wait_for(folder_ / "run/metrics.jsonl", "\"step\":500,");
  ::kill(servers_[1]->pid(), SIGKILL);
  const Ended ended = train.wait();
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_GT(nlohmann::json::parse(ended.out)["evaluation"].value("r2", -1.0), 0.95);
  const Ended backup = servers_[0]->wait();
  EXPECT_EQ(backup.exit_code, 0) << backup.err;
  EXPECT_THAT(backup.out,
              testing::AllOf(HasSubstr("replicates server 0 of 1"), HasSubstr("takes over after"),
                             HasSubstr("after 12000 updates")));
}

TEST_F(Served, WithoutABackupSaysHowToGoOn) {
  start(1);
  Program train(folder_.path(), training(addresses_, folder_.path()));
  train.wait_for(folder_ / "run/metrics.jsonl", "\"step\":500,");
  ::kill(servers_[0]->pid(), SIGKILL);
  const Ended ended = train.wait();
  EXPECT_NE(ended.exit_code, 0);
  EXPECT_THAT(ended.err, HasSubstr("is lost: its connection has closed"));
  EXPECT_THAT(ended.err, HasSubstr("trireme serve --restore"));
}

}  // namespace
}  // namespace trireme::test
