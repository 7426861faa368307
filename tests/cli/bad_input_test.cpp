// Bad input ends in one line on stderr and a documented exit code, on any number of ranks, and
// nothing is written.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "tests/cli/program.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr int kUsage = 2, kData = 3;

struct BadInput {
  const char* name;
  std::vector<std::string> words;
  int exit_code;
  std::string message;
};

std::vector<std::string> csv(const std::string& file, std::vector<std::string> more = {}) {
  std::vector<std::string> words = {"data.format=csv", "data.path=" + file, "data.target=y",
                                    "training.global_batch=4", "training.steps=3"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<std::string> idx(const std::string& images, std::vector<std::string> more = {}) {
  std::vector<std::string> words = {"data.format=idx", "data.images=" + images,
                                    "data.labels=labels", "model.name=mlp", "training.steps=3"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<BadInput> bad_inputs() {
  return {
      {"ShortRow", csv("short.csv"), kData, "short.csv:3:4: a row must have 3 fields, got 2"},
      {"ShortRowInOnePiece", csv("short.csv", {"data.sampler=block"}), kData, "short.csv:3:"},
      {"NoRows", csv("no-rows.csv", {"data.features=['x']"}), kData, "must have rows, has none"},
      {"EmptyFile", csv("empty.csv"), kData, "empty.csv:1:1: must have rows, is empty"},
      {"MissingValue", csv("missing.csv"), kData,
       "missing.csv:3:3: column \"z\" must have a value"},
      {"NoFile", csv("nowhere.csv"), kData, "data.path: no such file: nowhere.csv"},
      {"FolderForFile", csv("."), kData, "data.path must name a file, . is a folder"},
      {"NoTarget", csv("good.csv", {"data.target=q"}), kData, "must have a column \"q\", has"},
      {"NoFeature", csv("good.csv", {"data.features=['q']"}), kData, "a column \"q\", has"},
      {"CnnOnTable", csv("good.csv", {"model.name=cnn"}), kUsage, "model cnn needs images"},
      {"NoTorchScript", csv("good.csv", {"model.name=torchscript", "model.path=good.csv"}), kData,
       "good.csv: not a TorchScript module"},
      {"TornIdx", idx("torn"), kData, "torn: "},
      {"TornGzip", idx("torn.gz"), kData, "torn.gz: "},
      {"SmallBatch", csv("good.csv", {"training.virtual_workers=6"}), kUsage,
       "training.global_batch must hold a sample for each of the 6 virtual workers, got 4"},
      {"SharesOfOthers",
       csv("good.csv", {"training.virtual_workers=4", "training.shares=[1, 2, 3, 4, 5]"}), kUsage,
       "training.shares must have a number for each of the "},
      {"NegativeShare", csv("good.csv", {"training.shares=[1, -2]"}), kUsage,
       "training.shares must be a list of positive numbers"},
      {"SharesTwice", csv("good.csv", {"training.shares=[1]", "training.measure_shares=true"}),
       kUsage, "training.shares and training.measure_shares exclude each other"},
      {"NothingHeldOut", csv("good.csv", {"data.holdout=0.01"}), kUsage,
       "data.holdout must leave samples to train on and samples to evaluate on, got 0.01 of 4"},
      {"NesterovAlone", {"optimizer.nesterov=true"}, kUsage, "needs optimizer.momentum above 0"},
      {"UnusedKey",
       {"optimizer.name=adam", "optimizer.momentum=0.9"},
       kUsage,
       "optimizer.momentum = 0.9 is not used with optimizer.name = \"adam\"; it is used with "
       "optimizer.name = \"sgd\" or \"rmsprop\" or \"muon\""},
      {"OldValue",
       {"parallelism.strategy=shared"},
       kUsage,
       "parallelism.strategy = \"shared\" is now called \"host_shared\""},
      {"GroupOfNothing", csv("good.csv", {"optimizer.groups=[{match=\"weigth\"}]"}), kUsage,
       "optimizer.groups[0]: no parameter has match = \"weigth\"; did you mean \"weight\"?"},
      {"UnknownKey", {"optimizer.momentun=0.9"}, kUsage, "did you mean optimizer.momentum?"},
      {"UnknownSection", {"optimiser.lr=1"}, kUsage, "did you mean optimizer?"},
      {"WrongType", {"bad.toml"}, kUsage, "bad.toml:2:6: optimizer.lr must be a number, got \"x\""},
      {"NoToml", {"torn.toml"}, kUsage, "torn.toml:1:"},
      {"NoConfiguration", {"nowhere.toml"}, kData, "nowhere.toml: cannot open"},
      {"TwoConfigurations", {"bad.toml", "torn.toml"}, kUsage, "one configuration file"},
      {"Nothing", {}, kUsage, "trireme init linear > run.toml"},
      {"UnknownOption", {"--frob"}, kUsage, "train: The following argument was not expected"},
      {"NoDirectory", {"run.directory="}, kUsage, "run.directory must be a path"},
      {"FileForDirectory",
       {"run.directory=good.csv"},
       kData,
       "run.directory must be a folder to write in, got good.csv: good.csv: cannot create: "},
      {"NoWeights", csv("good.csv", {"model.weights=nowhere"}), kData,
       "model.weights: no such file: nowhere"},
      {"TornWeights", csv("good.csv", {"model.weights=torn"}), kData,
       "torn: not a safetensors file"},
      {"NothingToResume",
       {"--resume", "nowhere"},
       kUsage,
       "train: --resume must name the directory of a run, nowhere does not exist"},
      {"FileToResume", {"--resume", "good.csv"}, kUsage, "good.csv is not a directory"},
      {"FolderToResume", {"--resume", "."}, kUsage, "holds no checkpoint to resume from"},
      {"TestImagesOfAnotherSize",
       idx("images", {"data.test_images=wide", "data.test_labels=labels"}), kData,
       "data.test_images: a sample of wide must be [1, 2, 2], as in images, but is"},
  };
}

class BadInputs : public testing::TestWithParam<std::tuple<BadInput, int>> {
 protected:
  BadInputs() {
    write("good.csv", "x,z,y\n1,2,3\n2,3,4\n4,5,6\n5,6,8\n");
    write("short.csv", "x,z,y\n1,2,3\n2,3\n4,5,6\n5,6,8\n");
    write("missing.csv", "x,z,y\n1,2,3\n2,,3\n4,5,6\n5,6,8\n");
    write("no-rows.csv", "x,z,y\n");
    write("empty.csv", "");
    write("bad.toml", "[optimizer]\nlr = \"x\"\n");
    write("torn.toml", "[optimizer\nlr = 1\n");
    write("labels", std::string("\0\0\x08\x01\0\0\0\x02", 8) + std::string("\0\1", 2));
    write("images", std::string("\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02", 16) + "12345678");
    write("wide", std::string("\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x03", 16) + "123456789abc");
    write("torn", std::string("\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02", 16) + "12345");
    write("torn.gz", std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b", 11));
  }

  void write(const std::string& name, const std::string& bytes) {
    write_file_atomically(folder_ / name, bytes);
  }

  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("stdout-") && !name.starts_with("stderr-")) names.insert(name);
    }
    return names;
  }

  TemporaryFolder folder_;
};

TEST_P(BadInputs, EndInOneLineAndWriteNothing) {
  const auto& [bad, ranks] = GetParam();
  const auto before = files();
  std::vector<std::string> words = {"train", "-n", std::to_string(ranks)};
  words.insert(words.end(), bad.words.begin(), bad.words.end());
  const Ended ended = run_program(folder_.path(), words);
  EXPECT_EQ(ended.exit_code, bad.exit_code);
  EXPECT_THAT(ended.err, StartsWith("trireme: "));
  EXPECT_THAT(ended.err, HasSubstr(bad.message));
  EXPECT_EQ(std::ranges::count(ended.err, '\n'), 1) << ended.err;
  EXPECT_EQ(ended.out, "");
  EXPECT_EQ(files(), before);
}

std::string name_of(const testing::TestParamInfo<std::tuple<BadInput, int>>& info) {
  return fmt::format("{}On{}", std::get<0>(info.param).name, std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Cli, BadInputs,
                         testing::Combine(testing::ValuesIn(bad_inputs()), testing::Values(1, 3)),
                         name_of);

TEST(CommandLine, NamesTheCommandThatWasMeant) {
  const TemporaryFolder folder;
  const Ended ended = run_program(folder.path(), {"trian"});
  EXPECT_EQ(ended.exit_code, kUsage);
  EXPECT_EQ(ended.err, "trireme: no command \"trian\"; did you mean train?\n");
}

TEST(CommandLine, OfTheProgramsFileIsTheSame) {
  const TemporaryFolder folder;
  const Ended bad = run_program(folder.path(), {"trian"}, Start::kFile);
  EXPECT_EQ(bad.exit_code, kUsage);
  EXPECT_EQ(bad.err, "trireme: no command \"trian\"; did you mean train?\n");
  const Ended good =
      run_program(folder.path(), {"train", "-n", "3", "training.steps=5"}, Start::kFile);
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_TRUE(std::filesystem::exists(folder / "run" / "model.safetensors"));
}

TEST(CommandLine, AnswersHelpAndVersionOnStdout) {
  const TemporaryFolder folder;
  for (const std::string command : {"train", "run", "init", "keys", "doctor"}) {
    const Ended help = run_program(folder.path(), {command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_THAT(help.out, HasSubstr("trireme " + command));
    EXPECT_EQ(help.err, "");
  }
  EXPECT_THAT(run_program(folder.path(), {"--version"}).out, StartsWith("trireme "));
}

// Nothing of what was meant for a stream lands in a file, and a result that is lost is an error.
TEST(CommandLine, SurvivesClosedStreams) {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& words) {
    const std::string command =
        fmt::format("cd '{}' && {} {}", folder.path().string(), TRIREME_PROGRAM, words);
    return WEXITSTATUS(std::system(command.c_str()));
  };
  EXPECT_EQ(run("keys <&- >keys"), 0);
  EXPECT_THAT(read_file(folder / "keys"), HasSubstr("optimizer.lr"));
  EXPECT_EQ(run("keys >&- 2>err"), kData);
  EXPECT_THAT(read_file(folder / "err"), StartsWith("trireme: stdout: cannot write the result"));
  EXPECT_EQ(run("train -n 2 training.steps=3 run.directory=out <&- >&- 2>&-"), kData);
  EXPECT_TRUE(std::filesystem::exists(folder / "out/model.safetensors"));
  for (const char* name : {"out/config.toml", "out/metrics.jsonl"}) {
    EXPECT_EQ(read_file(folder / name).find("done"), std::string::npos) << name;
  }
}

// As another user would see them.
TEST(CommandLine, NamesWhatItMayNotRead) {
  if (::geteuid() != 0) return;  // only root can become another user
  const TemporaryFolder folder;
  write_file_atomically(folder / "secret.csv", "x,y\n1,2\n3,4\n");
  std::filesystem::permissions(folder / "secret.csv", std::filesystem::perms::owner_read);
  std::filesystem::create_directory(folder / "closed");
  write_file_atomically(folder / "closed/table.csv", "x,y\n1,2\n3,4\n");
  std::filesystem::permissions(folder / "closed", std::filesystem::perms::owner_all);
  std::filesystem::permissions(folder.path(), std::filesystem::perms::others_read |
                                                  std::filesystem::perms::others_exec |
                                                  std::filesystem::perms::owner_all);
  const auto run = [&](const std::string& words) {
    const std::string command =
        fmt::format("cd '{0}' && setpriv --reuid=65534 --regid=65534 --clear-groups {1} {2} 2>err",
                    folder.path().string(), TRIREME_PROGRAM, words);
    return WEXITSTATUS(std::system(command.c_str()));
  };
  const auto said = [&] { return read_file(folder / "err"); };
  const std::string csv = "train data.format=csv data.target=y data.path=";
  EXPECT_EQ(run(csv + "secret.csv --dry-run"), kData);
  EXPECT_EQ(said(), "trireme: secret.csv: cannot open: Permission denied\n");
  EXPECT_EQ(run(csv + "closed/table.csv --dry-run"), kData);
  EXPECT_EQ(said(), "trireme: data.path: cannot look at closed/table.csv: Permission denied\n");
  EXPECT_EQ(run("train -n 1 training.steps=1"), kData);
  EXPECT_THAT(said(), StartsWith("trireme: run.directory must be a folder to write in, got run: "));
  EXPECT_EQ(run("train --resume closed/run"), kData);
  EXPECT_THAT(said(), HasSubstr("closed/run"));
}

TEST(DryRun, OpensTheDataAndWritesNothing) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "table.csv", "x,y\n1,2\n3\n");
  const std::vector<std::string> words = {"train", "--dry-run", "data.format=csv",
                                          "data.path=table.csv", "data.target=y"};
  const Ended torn = run_program(folder.path(), words);
  EXPECT_EQ(torn.exit_code, kData);
  EXPECT_THAT(torn.err, HasSubstr("table.csv:3:2: a row must have 2 fields, got 1"));
  write_file_atomically(folder / "table.csv", "x,y\n1,2\n3,4\n");
  const Ended whole = run_program(folder.path(), words);
  EXPECT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_THAT(whole.out, HasSubstr("path = 'table.csv'"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(Run, PassesTheProgramsOwnOptionsOn) {
  const TemporaryFolder folder;
  for (const bool dashes : {false, true}) {
    std::vector<std::string> words = {"run", "-n", "1"};
    if (dashes) words.push_back("--");
    for (const char* word : {"printf", "%s.", "-n", "3", "--pin", "--", "x=1"}) {
      words.push_back(word);
    }
    EXPECT_EQ(run_program(folder.path(), words).out, "-n.3.--pin.--.x=1.");
  }
}

TEST(Run, ExitsAsTheProgramAtFault) {
  const TemporaryFolder folder;
  const Ended missing = run_program(folder.path(), {"run", "-n", "2", "./nowhere"});
  EXPECT_EQ(missing.exit_code, kUsage);
  EXPECT_THAT(missing.err, StartsWith("trireme: run: cannot start \"./nowhere\""));
  EXPECT_EQ(run_program(folder.path(), {"run"}).exit_code, kUsage);
  const Ended failed = run_program(folder.path(), {"run", "-n", "3", "sh", "-c",
                                                   "test $RANK != 1 || { echo why >&2; exit 7; }"});
  EXPECT_EQ(failed.exit_code, 7);
  EXPECT_THAT(failed.err, HasSubstr("rank 1 of 3: exit code 7"));
  EXPECT_THAT(failed.err, HasSubstr("│   why"));
}

// What 2 to 5 mean in trireme is not what they mean in a program of the user's.
TEST(Run, DoesNotExplainTheProgramsOwnExitCodes) {
  const TemporaryFolder folder;
  for (const int code : {1, 2, 3, 4, 5, 77}) {
    const Ended failed =
        run_program(folder.path(), {"run", "-n", "2", "sh", "-c", fmt::format("exit {}", code)});
    EXPECT_EQ(failed.exit_code, code);
    EXPECT_THAT(failed.err, HasSubstr(fmt::format("of 2: exit code {}\n", code)));
  }
}

}  // namespace
}  // namespace trireme::test
