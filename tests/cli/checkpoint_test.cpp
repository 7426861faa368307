// `trireme checkpoint` on the checkpoints and models of runs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/cli/program.h"
#include "tests/formats/tensor_bytes.h"
#include "tests/train/words.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// One run of three ranks, ZeRO 3, with checkpoints of the steps 10 and 20, of which each test has a
// copy.
class CheckpointCommand : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_of_all_ = new TemporaryFolder();
    const Ended ended =
        run_program(folder_of_all_->path(),
                    {"train", "-n", "3", "model.name=mlp", "model.hidden=[96,48]",
                     "data.samples=64", "data.features_count=20", "training.steps=20",
                     "training.global_batch=12", "training.virtual_workers=6",
                     "training.precision=f16", "parallelism.shard=3", "checkpoint.every_steps=10",
                     "checkpoint.keep=10", "optimizer.name=adamw", "run.directory=run"});
    ASSERT_EQ(ended.exit_code, 0) << ended.err;
  }
  static void TearDownTestSuite() {
    delete folder_of_all_;
    folder_of_all_ = nullptr;
  }

  CheckpointCommand() {
    fs::copy(folder_of_all_->path(), folder_.path(),
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }

  Ended run(Words words) const {
    words.insert(words.begin(), "checkpoint");
    return run_program(folder_.path(), words);
  }

  json run_for_json(Words words, int exit_code = 0) const {
    words.emplace_back("--json");
    const Ended ended = run(words);
    EXPECT_EQ(ended.exit_code, exit_code) << ended.err;
    return json::parse(ended.out);
  }

  void expect_refused(const Words& words, int exit_code, const std::string& message) const {
    const Ended ended = run(words);
    EXPECT_EQ(ended.exit_code, exit_code) << ended.out;
    EXPECT_THAT(ended.err, AllOf(StartsWith("trireme: "), HasSubstr(message)));
    EXPECT_THAT(ended.out, IsEmpty());
  }

  TemporaryFolder folder_;

 private:
  static inline TemporaryFolder* folder_of_all_ = nullptr;
};

TEST_F(CheckpointCommand, InspectsARunACheckpointAndAModel) {
  const Ended ended = run({"inspect", "run"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(ended.out, StartsWith("run/checkpoints/step-20 (checkpoint of step 20)\n"));
  EXPECT_THAT(ended.out, HasSubstr("training.virtual_workers = \"6\"\n"));
  EXPECT_THAT(ended.out, HasSubstr("section precision\n  loss_scale = "));
  EXPECT_THAT(ended.out, HasSubstr("  model.layers.0.weight  f32[96, 20]  "));

  // 20 * 96 + 96 + 96 * 48 + 48 + 48 + 1 parameters, two moments of each and a counter a tensor.
  const json contents = run_for_json({"inspect", "run/checkpoints/step-10"});
  EXPECT_EQ(contents["step"], 10);
  EXPECT_EQ(contents["sizes"]["model"]["elements"], 6721);
  EXPECT_EQ(contents["sizes"]["optimizer"]["bytes"], 2 * 4 * 6721 + 6 * 8);
  EXPECT_EQ(contents["tensors"]["model.layers.1.weight"]["shape"], json::array({48, 96}));
  EXPECT_EQ(contents["files"][0]["bytes"],
            fs::file_size(folder_ / "run/checkpoints/step-10/rank-0.safetensors"));

  const json model = run_for_json({"inspect", "run/model.safetensors"});
  EXPECT_EQ(model["kind"], "model");
  EXPECT_EQ(model["sizes"]["model"]["bytes"], 4 * 6721);
  EXPECT_FALSE(model.contains("step"));
}

TEST_F(CheckpointCommand, ListsWhatARunKeepsAndWhy) {
  const json list = run_for_json({"list", "run"});
  ASSERT_EQ(list["checkpoints"].size(), 2u);
  const json& first = list["checkpoints"][0];
  EXPECT_EQ(first["step"], 10);
  EXPECT_EQ(first["path"], "run/checkpoints/step-10");
  EXPECT_EQ(first["whole"], true);
  EXPECT_EQ(first["kept_as"], json::array({"newest"}));
  std::int64_t bytes = 0;
  for (const auto& file : fs::directory_iterator(folder_ / "run/checkpoints/step-10")) {
    if (file.path().extension() == ".safetensors") bytes += fs::file_size(file);
  }
  EXPECT_EQ(first["bytes"], bytes);
  EXPECT_EQ(run_for_json({"list", "run/checkpoints"})["checkpoints"], list["checkpoints"]);

  fs::resize_file(folder_ / "run/checkpoints/step-10/rank-1.safetensors", 100);
  const Ended ended = run({"list", "run"});
  EXPECT_EQ(ended.exit_code, 0);
  EXPECT_THAT(ended.out, AllOf(ContainsRegex(" 10 .* DAMAGED "), ContainsRegex(" 20 .* whole "),
                               HasSubstr("step-10/rank-1.safetensors: the file is damaged")));
  expect_refused({"list", "nothing"}, 3, "nothing: must be a run directory");
}

TEST_F(CheckpointCommand, VerifiesEveryByte) {
  const Ended whole = run({"verify", "run", "run/model.safetensors"});
  EXPECT_EQ(whole.exit_code, 0);
  EXPECT_THAT(whole.out, HasSubstr("whole: run/checkpoints/step-10 (checkpoint of step 10), "));
  EXPECT_THAT(whole.out, HasSubstr("whole: run/model.safetensors (model), "));

  const fs::path file = folder_ / "run/checkpoints/step-10/rank-2.safetensors";
  std::string bytes = read_file(file);
  bytes[bytes.size() / 2] ^= 4;
  write_file_atomically(file, bytes);
  EXPECT_EQ(run_for_json({"list", "run"})["checkpoints"][0]["whole"], true) << "sizes alone";
  const Ended damaged = run({"verify", "run/checkpoints/step-10", "run/checkpoints/step-20"});
  EXPECT_EQ(damaged.exit_code, 3);
  EXPECT_THAT(damaged.out, HasSubstr("damaged: run/checkpoints/step-10/rank-2.safetensors: the "
                                     "file is damaged: its SHA-256 must be "));
  EXPECT_THAT(damaged.out, HasSubstr("whole: run/checkpoints/step-20 "));
  EXPECT_EQ(run({"verify", "run"}).exit_code, 3);
  EXPECT_EQ(run({"verify", "nowhere"}).exit_code, 3);
}

TEST_F(CheckpointCommand, FindsNoDifferenceBetweenACheckpointAndTheModelOfItsStep) {
  const Ended ended = run({"diff", "run", "run/model.safetensors"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("compared: the tensors model.NAME of the checkpoint"));
  EXPECT_THAT(ended.out, HasSubstr("equal: 6 tensors, 6,721 elements\n"));
}

TEST_F(CheckpointCommand, SaysWhatDiffersAndEndsWithSix) {
  const Words words = {"diff", "run/checkpoints/step-10", "run"};
  const Ended ended = run(words);
  EXPECT_EQ(ended.exit_code, 6);
  EXPECT_THAT(ended.err, IsEmpty());
  EXPECT_THAT(ended.out, HasSubstr("model.layers.0.bias["));
  EXPECT_THAT(ended.out, ContainsRegex("optimizer.layers.0.bias.step.0.: [0-9]+ and [0-9]+; 1 of 1 "
                                       "element differ, by at most 10\n"));
  EXPECT_THAT(ended.out, HasSubstr("step: 10 and 20\n"));
  EXPECT_THAT(ended.out, HasSubstr("different: 24 of 24 tensors in both; 0 only in A"));

  const json found = run_for_json(words, 6);
  EXPECT_FALSE(found["equal"]);
  EXPECT_EQ(found["first"]["name"], "model.layers.0.bias");
  EXPECT_EQ(found["tensor_differences"].size(), 24u);
  EXPECT_EQ(found["state_differences"].back()["name"], "step");
  EXPECT_EQ(run_for_json({"diff", "run", "run", "--tolerance", "0"})["equal"], true);
}

TEST_F(CheckpointCommand, ConvertsACheckpointToTheModelThatTheRunWrote) {
  Ended ended = run({"convert", "run", "one.safetensors"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(ended.out, "wrote one.safetensors (model)\n");
  EXPECT_EQ(tensor_bytes(folder_ / "one.safetensors"),
            tensor_bytes(folder_ / "run/model.safetensors"));

  ended = run({"convert", "run", "parts/m.safetensors", "--file-bytes", "10000"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(tensor_bytes_by_index(folder_ / "parts/m.safetensors.index.json"),
            tensor_bytes(folder_ / "run/model.safetensors"));
}

TEST_F(CheckpointCommand, ARunResumesFromAConvertedCheckpointWithTheSameBits) {
  fs::copy(folder_ / "run", folder_ / "other", fs::copy_options::recursive);
  fs::remove_all(folder_ / "other/checkpoints/step-20");
  ASSERT_EQ(run({"convert", "run/checkpoints/step-10", "other/checkpoints/step-10", "--files", "5",
                 "--overwrite"})
                .exit_code,
            0);
  EXPECT_TRUE(fs::exists(folder_ / "other/checkpoints/step-10/rank-4.safetensors"));
  const Ended resumed = run_program(folder_.path(), {"train", "-n", "2", "--resume", "other"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  const json found = run_for_json({"diff", "run", "other"});
  EXPECT_TRUE(found["equal"]) << found;
  EXPECT_EQ(found["a"], "run/checkpoints/step-20");
  EXPECT_EQ(found["b"], "other/checkpoints/step-20");
  EXPECT_TRUE(fs::exists(folder_ / "other/checkpoints/step-20/rank-0.safetensors"));
}

TEST_F(CheckpointCommand, RefusesBadInput) {
  expect_refused({"inspect", "nowhere"}, 3, "nowhere: must be a checkpoint");
  expect_refused({"inspect", "run/logs"}, 3, "no complete checkpoint");
  expect_refused({"inspect", "run/config.toml"}, 3, "run/config.toml: not a safetensors file");
  expect_refused({"convert", "run", "run/model.safetensors"}, 2, "--overwrite");
  expect_refused({"convert", "run", "elsewhere"}, 2, "step-20, got elsewhere");
  expect_refused({"diff", "run", "run", "--tolerance", "-1"}, 2, "at least 0");
  expect_refused({"diff", "run"}, 2, "B is required");
  expect_refused({}, 2, "checkpoint");
  const std::string file = "run/checkpoints/step-20/rank-0.safetensors";
  fs::resize_file(folder_ / file, 1000);
  for (const Words& words : {Words{"inspect", "run"}, Words{"diff", "run", "run/model.safetensors"},
                             Words{"convert", "run", "new.safetensors"}}) {
    expect_refused(words, 3, file + ": the file is damaged: it must have");
  }
  EXPECT_FALSE(fs::exists(folder_ / "new.safetensors"));
}

// While a run lasts, its checkpoints are its own.
TEST_F(CheckpointCommand, WritesNoCheckpointOfARunThatLasts) {
  const auto lock = real_files().lock(folder_ / "run/trireme.lock", "a test");
  ASSERT_NE(lock, nullptr);
  expect_refused({"convert", "run", "run/checkpoints/step-20", "--overwrite"}, 2, "a test");
}

}  // namespace
}  // namespace trireme::test
