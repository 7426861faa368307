// How runs are resumed from the command line, and what becomes of their directories.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/program.h"
#include "tests/train/words.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class ResumedRun : public testing::Test {
 protected:
  static Words train(const Words& more = {}) {
    return Words{"train",
                 "-n",
                 "2",
                 "training.steps=30",
                 "training.global_batch=16",
                 "data.samples=200",
                 "data.features_count=5",
                 "training.virtual_workers=2",
                 "checkpoint.every_steps=10",
                 "checkpoint.keep=10",
                 "run.directory=out"} +
           more;
  }

  Ended run(const Words& words) { return run_program(folder_.path(), words); }

  void expect_ok(const Ended& ended) { EXPECT_EQ(ended.exit_code, 0) << ended.err; }

  // One line, as for every error of usage.
  void expect_refused(const Ended& ended, const std::string& message) {
    EXPECT_EQ(ended.exit_code, 2) << ended.err;
    EXPECT_THAT(ended.err, AllOf(StartsWith("trireme: "), HasSubstr(message)));
    EXPECT_EQ(ended.err.find('\n'), ended.err.size() - 1) << ended.err;
  }

  void write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  void replace_in(const std::string& name, const std::string& was, const std::string& is) {
    std::string text = read_file(folder_ / name);
    ASSERT_NE(text.find(was), std::string::npos) << text;
    text.replace(text.find(was), was.size(), is);
    std::ofstream(folder_ / name) << text;
  }

  TemporaryFolder folder_;
};

TEST_F(ResumedRun, FromAnotherFolderFindsItsFiles) {
  std::string table = "a,b,y\n";
  for (int i = 0; i < 50; ++i) table += fmt::format("{},{},{}\n", i, i * i % 7, 2 * i + 1);
  write("here/data.csv", table);
  std::filesystem::create_directories(folder_ / "else/where");
  expect_ok(run_program(
      folder_ / "here",
      {"train", "-n", "2", "data.format=csv", "data.path=data.csv", "data.target=y",
       "optimizer.lr=1e-5", "training.steps=30", "training.global_batch=16", "run.directory=out"}));
  expect_ok(run_program(folder_ / "else/where",
                        {"train", "--resume", "../../here/out", "training.steps=40"}));
}

TEST_F(ResumedRun, OfAPathWithQuotesAndBlanksIsPrintedForTheShell) {
  const std::string name = "my \"best\" run, it's $HOME";
  const Words words = train({"run.directory=" + name});
  expect_ok(run(words));
  expect_refused(run(words), "`trireme train --resume 'my \"best\" run, it'\\''s $HOME'`");
  expect_ok(run({"train", "--resume", name, "training.steps=40"}));
  const std::string command =
      fmt::format("cd '{}' && {} train --resume 'my \"best\" run, it'\\''s $HOME' --json > json",
                  folder_.path().string(), TRIREME_PROGRAM);
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(nlohmann::json::parse(read_file(folder_ / "json"))["steps"], 40);
}

TEST_F(ResumedRun, ThatWasFinishedHasNoLossInJson) {
  expect_ok(run(train()));
  const Ended ended = run({"train", "--resume", "out", "--json"});
  expect_ok(ended);
  EXPECT_TRUE(nlohmann::json::parse(ended.out)["loss"].is_null()) << ended.out;
  EXPECT_THAT(run({"train", "--resume", "out/"}).out, Not(HasSubstr("training loss")));
}

TEST_F(ResumedRun, KeepsItsModelAndType) {
  expect_ok(run(train()));
  expect_refused(run({"train", "--resume", "out", "training.precision=f64"}),
                 "was written with training.precision = 'f32', got 'f64'");
  expect_refused(run({"train", "--resume", "out", "model.name=mlp", "model.hidden=[3]"}),
                 "was written with model.name = 'linear', got 'mlp'");
}

TEST_F(ResumedRun, HasTheConfigurationThatWasTrainedWith) {
  expect_ok(run(train({"optimizer.lr=0.125"})));
  const std::string config = read_file(folder_ / "out/config.toml");
  const Words resume = {"train", "--resume", "out", "training.steps=40"};

  replace_in("out/config.toml", "lr = 0.125", "lr = 0.25");
  expect_refused(run(resume),
                 "out/config.toml is not the configuration that was trained with: optimizer.lr is "
                 "0.25, the checkpoint of step 30 has 0.125");
  expect_refused(run(resume), "for those of the checkpoint: optimizer.lr=0.125\n");

  std::ofstream(folder_ / "out/config.toml") << config.substr(0, config.find("lr = 0.125"));
  expect_refused(run(resume), "has 0.125");

  std::ofstream(folder_ / "out/config.toml") << config;
  const Ended asked = run(resume + Words{"optimizer.lr=0.5"});
  expect_ok(asked);
  EXPECT_THAT(asked.err, HasSubstr("trireme: optimizer.lr is 0.5, the checkpoint of step 30 has "
                                   "0.125\n"));
  expect_ok(run(resume));  // which the newest checkpoint has by now
}

// What an earlier --resume has changed is trireme's own doing and not a damaged file.
TEST_F(ResumedRun, GoesBackBehindAChangeOfItsConfiguration) {
  expect_ok(run(train()));
  expect_ok(run({"train", "--resume", "out", "optimizer.lr=0.5", "training.steps=40"}));
  const Ended back = run({"train", "--resume", "out", "--step", "30"});
  expect_ok(back);
  EXPECT_THAT(back.err, HasSubstr("optimizer.lr is 0.5, the checkpoint of step 30 has "));
  EXPECT_THAT(back.err, HasSubstr("training.steps is 40, the checkpoint of step 30 has 30"));

  replace_in("out/config.toml", "lr = 0.5", "lr = 0.25");
  expect_refused(run({"train", "--resume", "out", "--step", "30"}),
                 "out/config.toml is not the configuration that was trained with");
}

TEST_F(ResumedRun, FallsBackToAWholeCheckpointAndSaysSo) {
  expect_ok(run(train()));
  std::filesystem::resize_file(folder_ / "out/checkpoints/step-30/rank-0.safetensors", 20);
  const Ended ended = run({"train", "--resume", "out"});
  expect_ok(ended);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("warning: the run goes on from step 20: "),
                               HasSubstr("step-30/rank-0.safetensors: the file is damaged")));
  EXPECT_THAT(read_file(folder_ / "out/logs/rank-1.log"), HasSubstr("warning: the run goes on"));
}

TEST_F(ResumedRun, IsNotSuggestedAgainIfItHasFailed) {
  expect_ok(run(train()));
  for (const auto& step : std::filesystem::directory_iterator(folder_ / "out/checkpoints")) {
    std::filesystem::resize_file(step.path() / "rank-0.safetensors", 20);
  }
  const Ended ended = run({"train", "--resume", "out"});
  EXPECT_EQ(ended.exit_code, 3);
  EXPECT_THAT(ended.err, HasSubstr("no checkpoint is whole (of 3)"));
  EXPECT_THAT(ended.err, Not(HasSubstr("--resume")));
}

// The checkpoints of an earlier run are no way to resume one that has not begun.
TEST_F(ResumedRun, IsNotSuggestedOfAnEarlierRun) {
  expect_ok(run(train()));
  write("torn.csv", "a,y\n1,2\n3\n");
  const Ended ended = run({"train", "-n", "2", "--overwrite", "run.directory=out",
                           "data.format=csv", "data.path=torn.csv", "data.target=y"});
  EXPECT_EQ(ended.exit_code, 3);
  EXPECT_THAT(ended.err, AllOf(StartsWith("trireme: torn.csv:3:"), Not(HasSubstr("--resume"))));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/checkpoints/step-30"));
}

TEST_F(ResumedRun, BeginsAtTheCheckpointThatIsChosen) {
  expect_ok(run(train()));
  const auto begins_at = [&](int step, const Words& how) {
    const Ended ended = run(Words{"train"} + how);
    expect_ok(ended);
    EXPECT_THAT(ended.err, HasSubstr(fmt::format("going on after step {}\n", step)));
  };
  begins_at(10, {"--resume", "out", "--step", "10"});
  begins_at(20, {"--resume", "out/checkpoints/step-20"});
  begins_at(20, {"--resume", "./out//checkpoints/step-20/", "--step", "20"});
  begins_at(30, {"--resume", "out/"});
  const Ended inside = run_program(folder_ / "out/checkpoints", {"train", "--resume", "step-10"});
  EXPECT_THAT(inside.err, HasSubstr("going on after step 10\n"));
  expect_refused(run({"train", "--resume", "out/checkpoints/step-20", "--step", "10"}),
                 "name two checkpoints");
  expect_refused(run({"train", "--resume", "out", "--step", "7"}),
                 "out/checkpoints holds no checkpoint of step 7, only of 10, 20, 30");
  expect_refused(run(train({"--step", "10", "run.directory=new"})), "--step");
}

TEST_F(ResumedRun, OfAutoBeginsGoesOnAndIsComplete) {
  expect_ok(run(train({"run.directory=whole"})));
  const Words words = train({"--resume", "auto"});
  const Ended begun = run(words + Words{"training.max_time=1e-6"});
  EXPECT_EQ(begun.exit_code, 130) << begun.err;
  EXPECT_THAT(begun.out, AllOf(HasSubstr("stopped: training.max_time has passed\n"),
                               HasSubstr("resume with    trireme train --resume out\n")));
  const Ended went_on = run(words + Words{"training.max_time=2h"});
  expect_ok(went_on);
  EXPECT_THAT(went_on.err, HasSubstr("going on after step 1\n"));
  const auto model = [&](const std::string& name) {
    return read_file(folder_ / name / "model.safetensors");
  };
  EXPECT_EQ(model("out"), model("whole"));

  const Ended again = run(words);
  expect_ok(again);
  EXPECT_EQ(again.out, "out: the run is complete, after 30 steps: out/model.safetensors\n");
  const nlohmann::json json = nlohmann::json::parse(run(words + Words{"--json"}).out);
  EXPECT_EQ(json["complete"], true);
  EXPECT_EQ(json["steps"], 30);

  // The run had written its last checkpoint and no model.
  std::filesystem::remove(folder_ / "out/model.safetensors");
  expect_ok(run(words));
  EXPECT_EQ(model("out"), model("whole"));

  const Ended longer = run(words + Words{"training.steps=40"});
  expect_ok(longer);
  EXPECT_THAT(longer.err, HasSubstr("going on after step 30\n"));
}

TEST_F(ResumedRun, OfAutoKeepsWhatTheRunHasAndSaysSo) {
  const std::string text = "data = {samples = 200, features_count = 5}\nrun.directory = 'out'\n";
  write("run.toml", text + "training = {steps = 30, global_batch = 16}\n");
  const Words words = {"train", "-n", "2", "run.toml", "--resume", "auto"};
  expect_ok(run(words));
  write("run.toml", text + "training = {steps = 50, global_batch = 16}\n");
  const Ended again = run(words);
  expect_ok(again);
  EXPECT_THAT(again.out, HasSubstr("the run is complete, after 30 steps"));
  EXPECT_THAT(again.err, HasSubstr("trireme: run.toml:3:21: training.steps is 50, the run has 30 "
                                   "and keeps it; the command line changes it: training.steps=50"));
}

TEST_F(ResumedRun, OfAutoReplacesNothing) {
  write("project/lin.toml", "");
  const Words words = {"train", "--resume", "auto", "run.directory=project"};
  expect_refused(run(words), "project must be empty, hold a run or not exist");
  expect_refused(run(words + Words{"--overwrite"}), "leave out --overwrite");
  expect_refused(run(words + Words{"--step", "3"}), "leave out --step");
  expect_ok(run(train()));
  std::filesystem::remove_all(folder_ / "out/checkpoints");
  expect_refused(run(train({"--resume", "auto"})), "out holds a run; choose another one");
}

TEST_F(ResumedRun, OfAutoFindsTheMirrorOfADirectoryThatIsLost) {
  const Words words = train({"checkpoint.mirror=copies/out"});
  expect_ok(run(words + Words{"--resume", "auto"}));
  const std::string model = read_file(folder_ / "out/model.safetensors");
  std::filesystem::remove_all(folder_ / "out");
  expect_refused(run(words), "checkpoint.mirror: copies/out holds the checkpoints of a run; go on");
  std::filesystem::remove_all(folder_ / "copies/out/step-30");
  const Ended ended = run(words + Words{"--resume", "auto"});
  expect_ok(ended);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("going on after step 20\n"),
                               HasSubstr("the copy in copies/out is taken")));
  EXPECT_EQ(read_file(folder_ / "out/model.safetensors"), model);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "copies/out/step-30/manifest.json"));

  std::filesystem::remove_all(folder_ / "out/checkpoints");
  const Ended by_directory = run({"train", "--resume", "out"});
  expect_ok(by_directory);
  EXPECT_THAT(by_directory.err, HasSubstr("going on after step 30\n"));
}

using RunFolder = ResumedRun;

TEST_F(RunFolder, OfOthersIsRefused) {
  write("project/checkpoints/best.pt", "of the user");
  write("project/lin.toml", "");
  for (const Words& more : {Words{}, Words{"--overwrite"}}) {
    expect_refused(run(train(more + Words{"run.directory=project"})),
                   "project must be empty, hold a run or not exist, but it has \"checkpoints\", "
                   "\"lin.toml\", which trireme has not written");
  }
  EXPECT_EQ(read_file(folder_ / "project/checkpoints/best.pt"), "of the user");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "project/logs"));
}

TEST_F(RunFolder, BelongsToOneRunAtATime) {
  const Words endless = train({"training.steps=1000000", "checkpoint.every_steps=1000"});
  Program first(folder_.path(), endless);
  first.wait_for("out/logs/rank-0.log", "step ");
  const std::string in_use = fmt::format("out is in use by \"process {} on ", first.pid());
  expect_refused(run(train({"--overwrite"})), in_use);
  expect_refused(run(train()), in_use);
  EXPECT_GT(std::filesystem::file_size(folder_ / "out/logs/rank-0.log"), 0u);
  ::kill(first.pid(), SIGKILL);
  first.wait();
  Ended next;
  for (int i = 0; i < 100; ++i) {  // the ranks end a moment after their launcher
    next = run(train({"--overwrite"}));
    if (next.exit_code == 0) break;
    ::usleep(20'000);
  }
  expect_ok(next);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out/trireme.lock"));
}

TEST_F(RunFolder, WithAFifoIsAnErrorAndDoesNotHang) {
  expect_ok(run(train()));
  for (const std::string name : {"config.toml", "metrics.jsonl", "trireme.lock", "logs/rank-0.log",
                                 "logs/rank-1.log", "checkpoints/step-30/manifest.json"}) {
    const auto path = folder_ / "out" / name, aside = folder_ / "aside";
    if (std::filesystem::exists(path)) std::filesystem::rename(path, aside);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    const Ended ended = run({"train", "--resume", "out"});
    if (name.starts_with("checkpoints")) {
      EXPECT_THAT(ended.err, HasSubstr("going on after step 20\n"));
    } else {
      EXPECT_THAT(ended.exit_code, testing::AnyOf(2, 3)) << name << ended.err;
      EXPECT_THAT(ended.err, AllOf(HasSubstr(name), HasSubstr("FIFO")));
    }
    std::filesystem::remove(path);
    if (std::filesystem::exists(aside)) std::filesystem::rename(aside, path);
  }
}

TEST_F(RunFolder, WithALoopOfLinksIsAnError) {
  expect_ok(run(train()));
  for (const std::string name : {"config.toml", "logs", "checkpoints"}) {
    const auto path = folder_ / "out" / name, aside = folder_ / "aside";
    std::filesystem::rename(path, aside);
    std::filesystem::create_symlink(path, path);
    const Ended ended = run({"train", "--resume", "out"});
    EXPECT_THAT(ended.exit_code, testing::AnyOf(2, 3)) << name << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("Too many levels of symbolic links")) << name;
    std::filesystem::remove(path);
    std::filesystem::rename(aside, path);
  }
}

TEST(Output, ThatCannotBeWrittenIsAnError) {
  const TemporaryFolder folder;
  for (const std::string words :
       {"keys", "keys --json", "init mlp", "doctor", "--version",
        "train training.steps=3 --dry-run",
        "train -n 2 training.steps=3 data.samples=100 run.directory=out"}) {
    const std::string command = fmt::format("cd {} && {} {} > /dev/full 2> error",
                                            folder.path().string(), TRIREME_PROGRAM, words);
    const int status = std::system(command.c_str());
    EXPECT_EQ(WEXITSTATUS(status), 3) << words;
    EXPECT_THAT(read_file(folder / "error"), HasSubstr("stdout: cannot write the result")) << words;
  }
}

}  // namespace
}  // namespace trireme::test
