#include "trireme/plan/resolve.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "trireme/base/error.h"

namespace trireme::plan {
namespace {

using ::testing::HasSubstr;

using Words = std::vector<std::string>;
using Source = Config::Origin::Source;

RunPlan plan_of(const Words& words, int ranks = 3) {
  return resolve(parse_config("", "run.toml", words), ranks);
}

std::string error_of(const Words& words, int ranks = 3) {
  try {
    plan_of(words, ranks);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

// The way of training in one word.
struct Name {
  std::string operator()(const Replicated&) const { return "replicated"; }
  std::string operator()(const Sharded&) const { return "sharded"; }
  std::string operator()(const HostShared&) const { return "host_shared"; }
  std::string operator()(const LocalSteps& local) const {
    return local.outer_momentum > 0 ? "diloco" : "local_sgd";
  }
  std::string operator()(const ParameterServer& servers) const {
    return std::visit(Name(), servers.consistency);
  }
  std::string operator()(ParameterServer::Synchronous) const { return "servers"; }
  std::string operator()(ParameterServer::BackupWorkers) const { return "backup_workers"; }
  std::string operator()(ParameterServer::BoundedStaleness) const { return "bounded"; }
  std::string operator()(ParameterServer::Asynchronous) const { return "asynchronous"; }
};

std::string outcome(const Words& words) {
  try {
    return std::visit(Name(), plan_of(words).data_parallel);
  } catch (const UsageError& error) {
    return std::string(error.what()).find("does not go with") != std::string::npos ? "contradiction"
                                                                                   : "unused";
  }
}

struct Row {
  std::string strategy, mode, hybrid, wanted;
};

// Every combination of the three keys that choose a way of training; hybrid "": not set.
const Row kRows[] = {
    {"replicated", "synchronous", "", "replicated"},
    {"replicated", "synchronous", "local_sgd", "unused"},
    {"replicated", "synchronous", "diloco", "unused"},
    {"replicated", "synchronous", "bounded_staleness", "unused"},
    {"replicated", "synchronous", "backup_workers", "unused"},
    {"replicated", "asynchronous", "", "asynchronous"},
    {"replicated", "asynchronous", "local_sgd", "unused"},
    {"replicated", "asynchronous", "diloco", "unused"},
    {"replicated", "asynchronous", "bounded_staleness", "unused"},
    {"replicated", "asynchronous", "backup_workers", "unused"},
    {"replicated", "hybrid", "", "local_sgd"},
    {"replicated", "hybrid", "local_sgd", "local_sgd"},
    {"replicated", "hybrid", "diloco", "diloco"},
    {"replicated", "hybrid", "bounded_staleness", "bounded"},
    {"replicated", "hybrid", "backup_workers", "backup_workers"},
    {"host_shared", "synchronous", "", "host_shared"},
    {"host_shared", "synchronous", "local_sgd", "unused"},
    {"host_shared", "synchronous", "diloco", "unused"},
    {"host_shared", "synchronous", "bounded_staleness", "unused"},
    {"host_shared", "synchronous", "backup_workers", "unused"},
    {"host_shared", "asynchronous", "", "contradiction"},
    {"host_shared", "asynchronous", "local_sgd", "contradiction"},
    {"host_shared", "asynchronous", "diloco", "contradiction"},
    {"host_shared", "asynchronous", "bounded_staleness", "contradiction"},
    {"host_shared", "asynchronous", "backup_workers", "contradiction"},
    {"host_shared", "hybrid", "", "contradiction"},
    {"host_shared", "hybrid", "local_sgd", "contradiction"},
    {"host_shared", "hybrid", "diloco", "contradiction"},
    {"host_shared", "hybrid", "bounded_staleness", "contradiction"},
    {"host_shared", "hybrid", "backup_workers", "contradiction"},
    {"parameter_server", "synchronous", "", "servers"},
    {"parameter_server", "synchronous", "local_sgd", "unused"},
    {"parameter_server", "synchronous", "diloco", "unused"},
    {"parameter_server", "synchronous", "bounded_staleness", "unused"},
    {"parameter_server", "synchronous", "backup_workers", "unused"},
    {"parameter_server", "asynchronous", "", "asynchronous"},
    {"parameter_server", "asynchronous", "local_sgd", "unused"},
    {"parameter_server", "asynchronous", "diloco", "unused"},
    {"parameter_server", "asynchronous", "bounded_staleness", "unused"},
    {"parameter_server", "asynchronous", "backup_workers", "unused"},
    {"parameter_server", "hybrid", "", "contradiction"},
    {"parameter_server", "hybrid", "local_sgd", "contradiction"},
    {"parameter_server", "hybrid", "diloco", "contradiction"},
    {"parameter_server", "hybrid", "bounded_staleness", "bounded"},
    {"parameter_server", "hybrid", "backup_workers", "backup_workers"},
};

TEST(Resolve, DecidesEveryCombinationOfStrategyModeAndHybrid) {
  EXPECT_EQ(std::size(kRows), 3u * 3u * 5u);
  for (const Row& row : kRows) {
    Words words = {"parallelism.strategy=" + row.strategy, "communication.mode=" + row.mode};
    if (!row.hybrid.empty()) words.push_back("communication.hybrid=" + row.hybrid);
    EXPECT_EQ(outcome(words), row.wanted)
        << row.strategy << ", " << row.mode << ", " << (row.hybrid.empty() ? "-" : row.hybrid);
  }
}

// The keys of [communication] that each way of training uses, beside the three that choose it and
// those of the transport.
TEST(Resolve, UsesTheKeysOfEachWayOfTrainingAndRefusesTheOthers) {
  const Words kServers = {"servers", "server_shards"};
  const std::map<std::string, std::pair<Words, Words>> ways = {
      {"replicated", {{}, {}}},
      {"host_shared", {{"parallelism.strategy=host_shared"}, {}}},
      {"servers", {{"parallelism.strategy=parameter_server"}, kServers}},
      {"asynchronous",
       {{"communication.mode=asynchronous"}, {"servers", "server_shards", "group_size"}}},
      {"bounded",
       {{"communication.mode=hybrid", "communication.hybrid=bounded_staleness"},
        {"servers", "server_shards", "group_size", "staleness"}}},
      {"backup_workers",
       {{"communication.mode=hybrid", "communication.hybrid=backup_workers"},
        {"servers", "server_shards", "group_size", "backup_workers"}}},
      {"local_sgd",
       {{"communication.mode=hybrid"}, {"group_size", "local_steps", "fragments", "delay"}}},
      {"diloco",
       {{"communication.mode=hybrid", "communication.hybrid=diloco"},
        {"group_size", "local_steps", "fragments", "delay", "outer_lr", "outer_momentum"}}}};
  const std::map<std::string, std::string> values = {
      {"servers", "[]"},         {"server_shards", "1"},  {"group_size", "1"},
      {"staleness", "3"},        {"backup_workers", "1"}, {"local_steps", "16"},
      {"fragments", "1"},        {"delay", "0"},          {"outer_lr", "0.7"},
      {"outer_momentum", "0.9"}, {"replicas", "0"},       {"secret_key", "'a'"},
      {"server_keys", "[]"},     {"mix", "0.5"}};
  for (const auto& [way, keys] : ways) {
    EXPECT_EQ(outcome(keys.first), way);
    for (const auto& [key, value] : values) {
      Words words = keys.first;
      words.push_back(fmt::format("communication.{}={}", key, value));
      const bool is_used = std::ranges::find(keys.second, key) != keys.second.end();
      EXPECT_EQ(outcome(words), is_used ? way : "unused") << way << " with " << key;
    }
  }
}

TEST(Resolve, KeepsTheNumbersOfEachWay) {
  const auto servers = std::get<ParameterServer>(
      plan_of({"communication.mode=hybrid", "communication.hybrid=bounded_staleness",
               "communication.staleness=7", "communication.group_size=2",
               "communication.servers=['tcp://a:1', 'tcp://b:1']", "communication.replicas=1"})
          .data_parallel);
  EXPECT_EQ(std::get<ParameterServer::BoundedStaleness>(servers.consistency).steps, 7);
  EXPECT_EQ(servers.group_size, 2);
  EXPECT_EQ(servers.addresses, (Words{"tcp://a:1", "tcp://b:1"}));
  EXPECT_EQ(servers.replicas, 1);
  const auto local = std::get<LocalSteps>(
      plan_of({"communication.mode=hybrid", "communication.hybrid=diloco",
               "communication.local_steps=9", "communication.fragments=4", "communication.delay=2",
               "communication.mix=0.25", "communication.outer_lr=0.5"})
          .data_parallel);
  EXPECT_EQ(local.steps, 9);
  EXPECT_EQ(local.fragments, 4);
  EXPECT_EQ(local.delay, 2);
  EXPECT_EQ(local.mix, 0.25);
  EXPECT_EQ(local.outer_lr, 0.5);
  EXPECT_EQ(local.outer_momentum, 0.9);
}

TEST(Resolve, LocalSgdHasNoOuterOptimizer) {
  const auto local = std::get<LocalSteps>(plan_of({"communication.mode=hybrid"}).data_parallel);
  EXPECT_EQ(local.outer_lr, 1);
  EXPECT_EQ(local.outer_momentum, 0);
}

TEST(Resolve, AsynchronousAreThoseWaysInWhichNoRankWaitsForAnother) {
  EXPECT_FALSE(plan_of({}).is_asynchronous());
  EXPECT_FALSE(plan_of({"parallelism.strategy=host_shared"}).is_asynchronous());
  EXPECT_FALSE(plan_of({"parallelism.strategy=parameter_server"}).is_asynchronous());
  EXPECT_FALSE(plan_of({"communication.mode=hybrid"}).is_asynchronous());
  EXPECT_TRUE(plan_of({"communication.mode=asynchronous"}).is_asynchronous());
  for (const char* hybrid : {"bounded_staleness", "backup_workers"}) {
    EXPECT_TRUE(
        plan_of({"communication.mode=hybrid", fmt::format("communication.hybrid={}", hybrid)})
            .is_asynchronous());
  }
}

TEST(Resolve, GivesEachRankAVirtualWorkerByDefault) {
  const RunPlan plan = plan_of({}, 3);
  EXPECT_EQ(plan.batch.virtual_workers, 3);
  EXPECT_EQ(plan.mesh.ranks(), 3);
  EXPECT_EQ(plan_of({"training.virtual_workers=12"}, 3).batch.virtual_workers, 12);
  EXPECT_THAT(error_of({"training.virtual_workers=2"}, 3),
              HasSubstr("training.virtual_workers must be at least the 3 ranks, got 2"));
  EXPECT_THAT(error_of({"training.global_batch=2"}, 3),
              HasSubstr("must hold a sample for each of the 3 virtual workers, got 2"));
}

TEST(Resolve, RefusesSharesThatDoNotFitTheRanks) {
  EXPECT_THAT(error_of({"training.virtual_workers=9", "training.shares=[1, 2]"}, 3),
              HasSubstr("must have a number for each of the 3 ranks, got 2: [1, 2]"));
  EXPECT_THAT(error_of({"training.shares=[1, 2, 3]"}, 3),
              HasSubstr("training.virtual_workers must be more than the 3 ranks"));
  EXPECT_EQ(error_of({"training.virtual_workers=9", "training.shares=[1, 2, 3]"}, 3), "no error");
}

TEST(Resolve, RefusesLocalStepsThatCannotBe) {
  const Words local = {"communication.mode=hybrid", "communication.local_steps=8"};
  const auto with = [&](const std::string& word) {
    Words words = local;
    words.push_back(word);
    return error_of(words);
  };
  EXPECT_THAT(with("communication.fragments=9"), HasSubstr("must be at most the 8"));
  EXPECT_THAT(with("communication.delay=8"), HasSubstr("must be less than the 8"));
  EXPECT_EQ(with("communication.delay=7"), "no error");
}

TEST(Resolve, LeavesAWorkerToWaitFor) {
  const Words backup = {"communication.mode=hybrid", "communication.hybrid=backup_workers"};
  const auto with = [&](const Words& more, int ranks) {
    Words words = backup;
    words.insert(words.end(), more.begin(), more.end());
    return error_of(words, ranks);
  };
  EXPECT_THAT(with({}, 1), HasSubstr("must be less than the 1 ranks, got 1"));
  EXPECT_EQ(with({}, 2), "no error");
  EXPECT_THAT(with({"communication.group_size=2", "communication.backup_workers=2"}, 4),
              HasSubstr("must be less than the 2 groups, got 2"));
}

TEST(Resolve, RefusesReplicasOfServersInRank0) {
  EXPECT_THAT(error_of({"communication.mode=asynchronous", "communication.replicas=1"}),
              HasSubstr("communication.replicas = 1 needs servers that are programs of their own"));
}

TEST(Resolve, CompressesOnlyWhatIsSentAsAnAverage) {
  const std::string int8 = "communication.compression=int8";
  EXPECT_EQ(error_of({int8}), "no error");
  EXPECT_EQ(error_of({int8, "communication.mode=asynchronous"}), "no error");
  EXPECT_EQ(error_of({int8, "communication.mode=hybrid"}), "no error");
  EXPECT_THAT(error_of({int8, "parallelism.strategy=host_shared"}),
              HasSubstr("needs gradients that are sent"));
  EXPECT_THAT(error_of({int8, "parallelism.strategy=parameter_server"}),
              HasSubstr("needs gradients that are averages"));
}

TEST(Resolve, GivesTheOptimizerItsOwnOptionsAlone) {
  for (const std::string& name : optimizer_names()) {
    const OptimizerOptions options = plan_of({"optimizer.name=" + name}).optimizer;
    EXPECT_NO_THROW(refuse_other_options(options)) << name;
    EXPECT_TRUE(options.lr.has_value()) << name;
  }
  EXPECT_EQ(plan_of({"optimizer.name=sgd", "optimizer.momentum=0.9"}).optimizer.momentum, 0.9);
}

TEST(Resolve, GivesMuonItsMomentumUnlessItIsSet) {
  EXPECT_EQ(plan_of({"optimizer.name=muon"}).optimizer.momentum, std::nullopt);
  EXPECT_EQ(plan_of({"optimizer.name=muon", "optimizer.momentum=0.9"}).optimizer.momentum, 0.9);
}

TEST(Resolve, GivesMuonAndItsGroupsTheirOptions) {
  const OptimizerOptions muon = plan_of({"optimizer.name=muon", "optimizer.newton_schulz_steps=4",
                                         "optimizer.adamw_lr_factor=0.5",
                                         "optimizer.groups=[{match=\"fc3.*\", rule=\"adamw\"}]"})
                                    .optimizer;
  EXPECT_EQ(muon.newton_schulz_steps, 4);
  EXPECT_EQ(muon.adamw_lr_factor, 0.5);
  EXPECT_EQ(muon.groups.at(0).rule, "adamw");
  EXPECT_THAT(error_of({"optimizer.name=muon", "optimizer.newton_schulz_steps=0"}),
              HasSubstr("optimizer.newton_schulz_steps must be a number from 1 to 100"));
  EXPECT_THAT(error_of({"optimizer.groups=[{rule=\"adamw\"}]"}),
              HasSubstr("is used with optimizer.name = \"muon\""));
}

TEST(Resolve, RefusesToCutWhatAnOptimizerNeedsWhole) {
  for (const char* name : {"lamb", "muon"}) {
    const std::string optimizer = std::string("optimizer.name=") + name;
    EXPECT_EQ(error_of({optimizer}), "no error");
    EXPECT_EQ(error_of({optimizer, "communication.mode=hybrid"}), "no error");
    EXPECT_EQ(error_of({optimizer, "parallelism.strategy=parameter_server",
                        "communication.server_shards=2"}),
              "no error");
    EXPECT_EQ(error_of({optimizer, "parallelism.strategy=host_shared"}, 1), "no error");
    EXPECT_EQ(error_of({optimizer, "parallelism.strategy=host_shared"}),
              "optimizer.name = \"" + std::string(name) +
                  "\" does not go with parallelism.strategy = \"host_shared\": it updates whole "
                  "parameters, and each of the 3 ranks updates pieces of them; use "
                  "parallelism.strategy = \"replicated\" or optimizer.name = \"adamw\"");
  }
}

TEST(Resolve, ShardsInStagesAndSaysWhatDoesNotGoWithThem) {
  const auto sharded = [](const Words& words) {
    return std::get<Sharded>(plan_of(words).data_parallel);
  };
  EXPECT_EQ(sharded({"parallelism.shard=2"}).stage, 2);
  EXPECT_FALSE(sharded({"parallelism.shard=2"}).within_host);
  EXPECT_TRUE(sharded({"parallelism.shard=1", "parallelism.shard_within=host"}).within_host);
  EXPECT_FALSE(sharded({"parallelism.shard=3"}).whole_parameters);
  EXPECT_TRUE(sharded({"parallelism.shard=3", "optimizer.name=muon"}).whole_parameters);
  EXPECT_EQ(name_of(plan_of({"parallelism.shard=0"}).data_parallel), "replicated");
  EXPECT_THAT(error_of({"parallelism.shard=1", "communication.mode=asynchronous"}),
              HasSubstr("parallelism.shard = 1 does not go with communication.mode = "
                        "\"asynchronous\": the optimizer's state is on servers"));
  EXPECT_THAT(error_of({"parallelism.shard=1", "communication.mode=hybrid"}),
              HasSubstr("ranks that take local steps hold parameters of their own"));
  EXPECT_THAT(error_of({"parallelism.shard=1", "communication.compression=int8"}),
              HasSubstr("needs gradients that are all-reduced"));
  EXPECT_THAT(error_of({"parallelism.shard=1", "parallelism.strategy=host_shared"}),
              HasSubstr("parallelism.shard"));
  EXPECT_THAT(error_of({"parallelism.shard=4"}), HasSubstr("must be a number from 0 to 3, got 4"));
  EXPECT_THAT(error_of({"parallelism.shard_within=host"}), HasSubstr("is not used"));
}

TEST(Resolve, NamesTheStrategy) {
  EXPECT_EQ(name_of(plan_of({}).data_parallel), "replicated");
  EXPECT_EQ(name_of(plan_of({"parallelism.strategy=host_shared"}).data_parallel), "host_shared");
  EXPECT_EQ(name_of(plan_of({"communication.mode=hybrid"}).data_parallel), "local_steps");
  EXPECT_EQ(name_of(plan_of({"communication.mode=asynchronous"}).data_parallel),
            "parameter_server");
}

TEST(Resolve, RefusesAValueThatCodeHasMisspelled) {
  Config config;
  config.parallelism.strategy = "shared";
  EXPECT_THAT([&] { resolve_derived(config, 2); },
              testing::ThrowsMessage<UsageError>(HasSubstr(
                  "parallelism.strategy must be one of \"replicated\", \"host_shared\"")));
}

TEST(Resolve, ARunDirectoryWithEveryKeyOfAnEarlierVersionResumes) {
  const std::string old =
      "[optimizer]\nname = 'adam'\nmomentum = 0.9\nl1 = 0.0\n[parallelism]\nstrategy = 'shared'\n"
      "[communication]\nmode = 'synchronous'\nhybrid = 'diloco'\nstaleness = 3\nreplicas = 0\n";
  const Config config = parse_config(old, "config.toml", {}, Source::kRunDirectory);
  EXPECT_TRUE(std::holds_alternative<HostShared>(resolve(config, 2).data_parallel));
  EXPECT_THROW(parse_config(old, "config.toml", {}), UsageError);
}

}  // namespace
}  // namespace trireme::plan
