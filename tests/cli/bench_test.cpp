// `trireme bench`: what it prints can be read by programs, its figures obey their definitions, and
// what it cannot do it says before it begins.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/program.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr int kUsage = 2, kData = 3;

using Words = std::vector<std::string>;

Words bench(Words words) {
  words.insert(words.begin(), "bench");
  return words;
}

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

json measured(const Words& words, Start start = Start::kFork) {
  const TemporaryFolder folder;
  const Ended ended = run_program(folder.path(), bench(words), start);
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  return json::parse(ended.out, nullptr, false);
}

// nccl-tests, doc/PERFORMANCE.md.
double bus_factor(const std::string& operation, double n) {
  if (operation == "all-reduce") return 2 * (n - 1) / n;
  if (operation == "broadcast" || operation == "send") return 1;
  return (n - 1) / n;
}

// How many times the column "count" the column "size" is, in elements: nccl-tests counts a rank's
// piece where there are pieces.
int pieces(const std::string& operation, int ranks) {
  return operation == "all-reduce" || operation == "broadcast" || operation == "send" ? 1 : ranks;
}

class EveryOperation : public testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(EveryOperation, HasRightResultsAndBandwidthsByDefinition) {
  const std::string operation = std::get<0>(GetParam());
  const int ranks = std::get<1>(GetParam());
  const json report = measured({operation, "-n", std::to_string(ranks), "--sizes", "4,12Ki,1Mi",
                                "--memory", "both", "--seconds", "0.01", "--json"});
  ASSERT_EQ(report["rows"].size(), 3);
  EXPECT_EQ(report["ranks"], ranks);
  EXPECT_EQ(report["backend"], "shared memory");
  EXPECT_NE(report["machine"]["processor"], "");
  EXPECT_THAT(report["date"], StartsWith("20"));
  for (const json& row : report["rows"]) {
    EXPECT_EQ(row["wrong"], 0) << row;
    EXPECT_EQ(row["size"], row["count"].get<int>() * 4 * pieces(operation, ranks));
    const double seconds = row["time_us"].get<double>() / 1e6;
    EXPECT_GT(seconds, 0);
    const double bandwidth = row["size"].get<double>() / seconds / 1e9;
    EXPECT_NEAR(row["algbw"], bandwidth, 1e-9 * bandwidth);
    EXPECT_NEAR(row["busbw"], bandwidth * bus_factor(operation, ranks), 1e-9 * bandwidth);
    EXPECT_GT(row["copy_us"], 0);
    ASSERT_EQ(row["contenders"].size(), 3);
    EXPECT_EQ(row["contenders"][1]["name"], "heap");
    EXPECT_GE(row["contenders"][0]["batches"], 7);
  }
  EXPECT_EQ(report["rows"][1]["size"], 12288);
}

INSTANTIATE_TEST_SUITE_P(Bench, EveryOperation,
                         testing::Combine(testing::Values("all-reduce", "all-gather",
                                                          "reduce-scatter", "broadcast",
                                                          "all-to-all", "send"),
                                          testing::Values(2, 3)),
                         [](const auto& info) {
                           std::string name = std::get<0>(info.param);
                           std::erase(name, '-');
                           return name + "On" + std::to_string(std::get<1>(info.param));
                         });

TEST(Bench, FindsEveryTypeRight) {
  for (const std::string dtype : {"f32", "f64", "f16", "bf16", "i32", "i64", "u8"}) {
    const json report = measured({"reduce-scatter", "-n", "3", "--dtype", dtype, "--sizes", "3Ki",
                                  "--seconds", "0.001", "--json"});
    EXPECT_EQ(report["rows"][0]["wrong"], 0) << dtype;
    EXPECT_EQ(report["rows"][0]["size"], 3072);
    EXPECT_EQ(report["rows"][0]["type"], dtype);
  }
}

TEST(Bench, IsOrdinaryInAWorldOfOne) {
  for (const std::string operation : {"all-reduce", "send"}) {
    const json report =
        measured({operation, "-n", "1", "--sizes", "64", "--seconds", "0.001", "--json"});
    EXPECT_EQ(report["rows"][0]["wrong"], 0);
    EXPECT_EQ(report["bus_factor"], operation == "send" ? 1 : 0);
  }
}

TEST(Bench, PrintsATableThatNcclTestsUsersCanRead) {
  const TemporaryFolder folder;
  const Ended ended =
      run_program(folder.path(), bench({"all-gather", "-n", "2", "-b", "8", "-e", "128", "-f", "4",
                                        "--seconds", "0.01", "--dtype", "bf16"}));
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  std::istringstream out(ended.out);
  std::vector<double> sizes;
  for (std::string line; std::getline(out, line);) {
    if (line.starts_with("#")) continue;
    std::istringstream fields(line);
    double size, count, time, algbw, busbw, wrong, copy, ratio;
    std::string type, redop, more;
    ASSERT_TRUE(fields >> size >> count >> type >> redop >> time >> algbw >> busbw >> wrong >>
                copy >> ratio)
        << line;
    EXPECT_FALSE(fields >> more) << line;
    sizes.push_back(size);
    EXPECT_EQ(count, size / 4);
    EXPECT_EQ(type, "bf16");
    EXPECT_EQ(redop, "none");
    EXPECT_EQ(wrong, 0);
  }
  EXPECT_THAT(sizes, ElementsAre(8, 32, 128));
  for (const char* column : {"size", "count", "type", "redop", "time", "algbw", "busbw", "#wrong",
                             "copy", "(us)", "(GB/s)"}) {
    EXPECT_THAT(ended.out, HasSubstr(column));
  }
}

TEST(Bench, PlotsAnSvgThatParses) {
  const TemporaryFolder folder;
  const Ended ended =
      run_program(folder.path(), bench({"broadcast", "-n", "2", "--sizes", "4,1Ki,64Ki", "--memory",
                                        "both", "--seconds", "0.01", "--plot", "time.svg"}));
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  write_file_atomically(folder / "parse.py",
                        "import sys, xml.etree.ElementTree as xml\n"
                        "svg = '{http://www.w3.org/2000/svg}'\n"
                        "root = xml.parse('time.svg').getroot()\n"
                        "assert root.tag == svg + 'svg', root.tag\n"
                        "lines = root.findall(svg + 'polyline')\n"
                        "assert len(lines) == 3, len(lines)\n"
                        "assert all(len(l.get('points').split()) == 3 for l in lines)\n"
                        "text = ' '.join(t.text for t in root.findall(svg + 'text'))\n"
                        "for word in ['broadcast: 2 ranks', 'bytes', '64 KiB', 's',\n"
                        "             'trireme, allocated', 'trireme, heap', 'memcpy']:\n"
                        "  assert word in text, (word, text)\n"
                        "xs = [float(p.split(',')[0]) for p in lines[0].get('points').split()]\n"
                        "assert xs == sorted(xs)\n"
                        "steps = [xs[1] - xs[0], xs[2] - xs[1]]\n"
                        "assert abs(steps[0] / steps[1] - 8 / 6) < 0.02, steps\n");
  const std::string command =
      fmt::format("cd '{}' && python3 parse.py >parse.log 2>&1", folder.path().string());
  EXPECT_EQ(std::system(command.c_str()), 0) << read_file(folder / "parse.log");
}

TEST(Bench, MeasuresTheRanksOfTheLauncherThatStartedIt) {
  const TemporaryFolder folder;
  const Ended ended =
      run_program(folder.path(), {"run", "-n", "3", TRIREME_PROGRAM, "bench", "all-reduce",
                                  "--sizes", "64", "--seconds", "0.001", "--json"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  const json report = json::parse(ended.out, nullptr, false);
  EXPECT_EQ(report["ranks"], 3);
  EXPECT_EQ(report["rows"][0]["wrong"], 0);
  const Ended asked = run_program(
      folder.path(), {"run", "-n", "2", TRIREME_PROGRAM, "bench", "all-reduce", "-n", "2"});
  EXPECT_EQ(asked.exit_code, kUsage);
  EXPECT_THAT(asked.err, HasSubstr("another launcher has started them"));
}

class Peers : public testing::TestWithParam<const char*> {};

TEST_P(Peers, TakeTurnsWithOurRanksAndGoAway) {
  const std::string peer = GetParam();
  // Its own: other tests make such folders at the same time.
  const TemporaryFolder temporary;
  ::setenv("TMPDIR", temporary.path().c_str(), 1);
  const auto folders = [&] {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(temporary.path())) {
      count += entry.path().filename().string().starts_with("trireme-peers-");
    }
    return count;
  };
  for (const std::string operation : {"all-reduce", "all-gather"}) {
    const json report = measured({operation, "-n", "2", "--sizes", "4,16Ki", "--seconds", "0.01",
                                  "--against", peer, "--json"},
                                 Start::kFile);  // peers lie beside it
    for (const json& row : report["rows"]) {
      ASSERT_EQ(row["contenders"].size(), 3);
      const json& theirs = row["contenders"][2];
      EXPECT_EQ(theirs["name"], peer);
      EXPECT_GT(theirs["time_us"], 0);
      const double ratio = theirs["time_us"].get<double>() / row["time_us"].get<double>();
      EXPECT_NEAR(theirs["over_ours"], ratio, 1e-9 * ratio);
    }
  }
  EXPECT_EQ(folders(), 0);
  ::unsetenv("TMPDIR");
}

INSTANTIATE_TEST_SUITE_P(Bench, Peers, testing::Values("openmpi", "mpich", "gloo"),
                         [](const auto& info) { return std::string(info.param); });

// Only Gloo's program lies where the peers are looked for.
TEST(Bench, LeavesOutPeersThatCannotAndSaysWhich) {
  const TemporaryFolder folder;
  const auto peers = std::filesystem::path(TRIREME_PROGRAM).parent_path() / "peers";
  std::filesystem::create_directory(folder / "peers");
  std::filesystem::create_symlink(peers / "gloo_peer", folder / "peers/gloo_peer");
  const auto ended_with = [&](const std::string& operation, const std::string& against) {
    return run_program(folder.path(),
                       bench({operation, "-n", "2", "--sizes", "4", "--seconds", "0.001",
                              "--against", against, "--peers", "peers", "--json"}));
  };
  const Ended one = ended_with("all-reduce", "openmpi,gloo,mpich");
  ASSERT_EQ(one.exit_code, 0) << one.err;
  for (const std::string name : {"openmpi", "mpich"}) {
    EXPECT_THAT(one.err, HasSubstr("trireme: not against " + name + ": bench: --against " + name));
  }
  EXPECT_EQ(std::ranges::count(one.err, '\n'), 2) << one.err;
  const json report = json::parse(one.out);
  const json& contenders = report["rows"][0]["contenders"];
  ASSERT_EQ(contenders.size(), 3);
  EXPECT_EQ(contenders[2]["name"], "gloo");
  ASSERT_EQ(report["left_out"].size(), 2);
  EXPECT_EQ(report["left_out"][1]["name"], "mpich");

  const Ended none = ended_with("reduce-scatter", "openmpi,mpich,gloo");
  EXPECT_EQ(none.exit_code, kUsage);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err,
              AllOf(HasSubstr("Gloo has no reduce-scatter"), HasSubstr("--against openmpi needs"),
                    HasSubstr("--against mpich needs")));
}

TEST(BenchTrain, SplitsAStepAndNamesItsBound) {
  for (const std::string strategy : {"replicated", "host_shared"}) {
    const json report = measured({"train", "-n", "3", "model.name=mlp", "model.hidden=[16]",
                                  "training.steps=7", "training.virtual_workers=4",
                                  "parallelism.strategy=" + strategy, "--steps", "20", "--json"});
    EXPECT_EQ(report["ranks"], 3);
    EXPECT_EQ(report["strategy"], strategy);
    EXPECT_EQ(report["rounds"].get<int>() * report["steps_per_round"].get<int>(), 20);
    const double step = report["step_us"];
    EXPECT_GT(step, 0);
    EXPECT_GT(report["compute_us"], 0);
    EXPECT_GE(report["data_us"], 0);
    EXPECT_GE(report["communication_us"], 0);
    EXPECT_GE(report["arrival_distance_us"], 0);
    EXPECT_GT(report["independent_step_us"], 0);
    EXPECT_GE(report["overlap"], 0);
    EXPECT_LE(report["overlap"], 1);
    const double rate = report["global_batch"].get<double>() / step * 1e6;
    EXPECT_NEAR(report["samples_per_second"], rate, 1e-9 * rate);
  }
}

TEST(BenchTrain, WritesNothingButStdout) {
  const TemporaryFolder folder;
  const Ended ended =
      run_program(folder.path(), bench({"train", "-n", "2", "training.steps=5", "--steps", "10"}));
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  for (const char* row : {"step", "data", "compute", "communication", "without communication",
                          "communication alone", "samples/s"}) {
    EXPECT_THAT(ended.out, HasSubstr(row));
  }
  Words names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("stdout-") && !name.starts_with("stderr-")) names.push_back(name);
  }
  EXPECT_THAT(names, IsEmpty());
}

TEST(BenchMemory, PrintsEachKindBesideItsFormula) {
  const Words words = {"memory",
                       "-n",
                       "2",
                       "data.format=text",
                       "model.name=gpt2",
                       "model.layers=2",
                       "model.width=32",
                       "model.context=16",
                       "optimizer.name=adam",
                       "training.global_batch=4",
                       "parallelism.recompute=selective"};
  const json report = measured(words + Words{"--json"});
  EXPECT_EQ(report["ranks"], 2);
  EXPECT_EQ(report["micro_batch"], 2);
  EXPECT_EQ(report["recompute"], "selective");
  const json& bytes = report["bytes"];
  const std::int64_t parameters = report["parameters"];
  EXPECT_EQ(bytes["parameters"]["measured"], 4 * parameters);
  EXPECT_EQ(bytes["optimizer state"]["measured"], 8 * parameters);
  EXPECT_EQ(bytes["activations of a layer"]["formula"], 64 * 16 * 2 * 32);
  EXPECT_LE(bytes["activations of a layer"]["measured"], 1.05 * (64 * 16 * 2 * 32));
  EXPECT_GT(bytes["peak resident"]["measured"], bytes["resident before"]["measured"]);

  const TemporaryFolder folder;
  const Ended ended = run_program(folder.path(), bench(words));
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(ended.out, AllOf(HasSubstr("\n  temporaries"), HasSubstr("64 s b h; as Korthikanti"),
                               HasSubstr("2205.05198")));
}

struct Refusal {
  const char* name;
  Words words;
  std::string message;
  int exit_code = kUsage;
};

class Refusals : public testing::TestWithParam<Refusal> {};

TEST_P(Refusals, AreOneLineBeforeAnythingRuns) {
  const TemporaryFolder folder;
  const Ended ended = run_program(folder.path(), bench(GetParam().words));
  EXPECT_EQ(ended.exit_code, GetParam().exit_code);
  EXPECT_THAT(ended.err, StartsWith("trireme: "));
  EXPECT_THAT(ended.err, HasSubstr(GetParam().message));
  EXPECT_EQ(std::ranges::count(ended.err, '\n'), 1) << ended.err;
  EXPECT_EQ(ended.out, "");
}

INSTANTIATE_TEST_SUITE_P(
    Bench, Refusals,
    testing::Values(
        Refusal{"UnknownOperation",
                {"all-redcue"},
                "no operation \"all-redcue\"; did you mean all-reduce?"},
        Refusal{"NoOperation", {}, "an operation is missing: all-reduce, "},
        Refusal{"NoSize",
                {"send", "--sizes", "4,many"},
                "a size must be a number of bytes such as 4, 64Ki or 1M, got \"many\""},
        Refusal{"ZeroSize", {"send", "--sizes", "0"}, "got \"0\""},
        Refusal{"NegativeSize", {"send", "--min=-4"}, "got \"-4\""},
        Refusal{"EmptySize", {"send", "--sizes", "4,,8"}, "got \"\""},
        Refusal{"HugeSize", {"send", "--sizes", "99999999999999G"}, "got \"99999999999999G\""},
        Refusal{"UnknownUnit", {"send", "--sizes", "4Xi"}, "got \"4Xi\""},
        Refusal{"MoreThanMemory", {"send", "--sizes", "8192G"}, "of memory for a size of 8 TiB"},
        Refusal{"MinAboveMax",
                {"send", "-b", "1M", "-e", "1K"},
                "--min must be at most --max, got 1 MiB and 1 KiB"},
        Refusal{"SizesAndRange", {"send", "--sizes", "4", "-e", "8"}, "exclude each other"},
        Refusal{"FactorOfOne", {"send", "-f", "1"}, "not in range"},
        Refusal{"UnknownType",
                {"send", "--dtype", "f8"},
                "--dtype must be one of f32, f64, f16, bf16, i32, i64, u8, got \"f8\""},
        Refusal{"UnknownMemory",
                {"send", "--memory", "stack"},
                "--memory must be allocated, heap, both or device, got \"stack\""},
        Refusal{"TooManyRanks", {"send", "-n", "257"}, "not in range"},
        Refusal{"NoRanks", {"send", "-n", "0"}, "not in range"},
        Refusal{"NoTime", {"send", "--seconds", "0"}, "not in range"},
        Refusal{"UnknownPeer",
                {"all-reduce", "--against", "opnmpi"},
                "got \"opnmpi\"; did you mean openmpi?"},
        Refusal{"PeerBesideADevice",
                {"all-reduce", "--memory", "device", "--against", "gloo"},
                "--against has peers for the memory of processes only"},
        Refusal{"PeerWithoutHalves",
                {"all-reduce", "--against", "openmpi", "--dtype", "bf16"},
                "openmpi has no sum of bf16"},
        Refusal{"GlooWithoutReduceScatter",
                {"reduce-scatter", "--against", "gloo"},
                "Gloo has no reduce-scatter"},
        Refusal{"NoPeerProgram",
                {"all-reduce", "--against", "gloo", "--peers", "nowhere"},
                "apt-get install libtorch-dev"},
        Refusal{"PlotNowhere",
                {"send", "--plot", "nowhere/x.svg"},
                "--plot must name a file that can be written, got nowhere/x.svg: No such file or "
                "directory"},
        Refusal{"PlotIsFolder", {"send", "--plot", "."}, "got .: Is a directory"},
        Refusal{
            "UnknownOption", {"send", "--frob"}, "bench: The following argument was not expected"},
        Refusal{"TrainWithoutConfiguration", {"train"}, "bench train: no configuration"},
        Refusal{"MemoryWithoutConfiguration", {"memory"}, "bench memory: no configuration"},
        Refusal{"TrainWithNoFile", {"train", "nowhere.toml"}, "nowhere.toml: cannot open", kData},
        Refusal{"TrainWithUnknownKey",
                {"train", "optimizer.momentun=1"},
                "did you mean optimizer.momentum?"},
        Refusal{
            "TrainWithBadBatch",
            {"train", "-n", "2", "training.global_batch=1"},
            "training.global_batch must hold a sample for each of the 2 virtual workers, got 1"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(BenchOnDevices, SaysWhatTheyWant) {
  const TemporaryFolder folder;
  const Ended ended = run_program(
      folder.path(),
      bench({"all-reduce", "-n", "1", "--memory", "device", "--sizes", "4", "--seconds", "0.01"}));
  if (ended.exit_code == 0) GTEST_SKIP() << "this machine has a device";
  EXPECT_EQ(ended.exit_code, kUsage);
  EXPECT_THAT(ended.err, testing::AnyOf(HasSubstr("this trireme was built without NCCL"),
                                        HasSubstr("the CUDA device must be in [0, 0), got 0")));
}

}  // namespace
}  // namespace trireme::test
