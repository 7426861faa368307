// The network of fashion-mnist.toml, smaller, in every mode of benchmarks/modes.py: it trains, and
// it learns.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/examples/example_folder.h"

namespace trireme::test {
namespace {

using testing::Ge;
using testing::Gt;

struct Mode {
  std::string name;
  std::vector<std::string> overrides;
};

const std::string kAsynchronous = "communication.mode=asynchronous";
const std::string kHybrid = "communication.mode=hybrid";
const std::string kLocalSteps = "communication.local_steps=10";

std::vector<Mode> modes() {
  return {
      {"Synchronous", {}},
      {"Shared", {"parallelism.strategy=shared"}},
      {"SynchronousInt8", {"communication.compression=int8"}},
      {"SynchronousPowerSgd", {"communication.compression=power_sgd"}},
      {"ThroughServers", {"parallelism.strategy=through_server"}},
      {"Asynchronous", {kAsynchronous, "communication.server_shards=2"}},
      {"AsynchronousInt8", {kAsynchronous, "communication.compression=int8"}},
      {"BoundedStaleness", {kHybrid, "communication.hybrid=bounded_staleness"}},
      {"BackupWorkers", {kHybrid, "communication.hybrid=backup_workers"}},
      {"LocalSgd", {kHybrid, kLocalSteps}},
      {"DiLoCo", {kHybrid, kLocalSteps, "communication.hybrid=diloco"}},
      {"StreamingDiLoCo",
       {kHybrid, kLocalSteps, "communication.hybrid=diloco", "communication.fragments=4",
        "communication.delay=2"}},
      {"DiLoCoInt8",
       {kHybrid, kLocalSteps, "communication.hybrid=diloco", "communication.compression=int8"}},
  };
}

class EachMode : public testing::TestWithParam<Mode> {};

// One class in ten: guessing recognises 10 %.
TEST_P(EachMode, TellsClothesApart) {
  for (const int ranks : {2, 3}) {
    const ExampleFolder folder;
    std::vector<std::string> overrides = {"training.steps=60", "training.threads=1",
                                          "model.channels=[4,8]", "model.hidden=[32]",
                                          "metrics.every_steps=10"};
    overrides.insert(overrides.end(), GetParam().overrides.begin(), GetParam().overrides.end());
    folder.train("fashion-mnist", ranks, overrides);
    const std::filesystem::path run = folder / "runs/fashion-mnist";
    EXPECT_THAT(metric(run, "/evaluation/accuracy").back(), Ge(0.55)) << ranks << " ranks";
    const std::vector<double> losses = metric(run, "/loss");
    EXPECT_LT(losses.back(), 0.8 * losses.front()) << ranks << " ranks";
    for (const char* bytes : {"/bytes_sent", "/bytes_received"}) {
      EXPECT_THAT(metric(run, bytes).back(), Gt(0)) << bytes;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(FashionMnist, EachMode, testing::ValuesIn(modes()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace trireme::test
