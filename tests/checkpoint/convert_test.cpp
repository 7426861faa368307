// A checkpoint of any layout as a model, or as a checkpoint in other files: what is written, and
// that it is written as a whole or not at all.
#include "trireme/checkpoint/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/checkpoint/counting_files.h"
#include "tests/checkpoint/layouts.h"
#include "tests/formats/error_of.h"
#include "tests/formats/tensor_bytes.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/pieces.h"
#include "trireme/checkpoint/stored_tensors.h"

namespace trireme::test {
namespace {

namespace fs = std::filesystem;
using testing::AnyOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const fs::path kFrom = "/run/checkpoints/step-20";
const fs::path kModel = "/out/model.safetensors";
const fs::path kStepFolder = "/out/step-20";

class Convert : public testing::Test {
 protected:
  Convert() { start_anew(Cutting::kColumns, 3); }

  void start_anew(Cutting cutting, int ranks) {
    files_.clear();
    files_.make_directory("/out");
    files_.sync_directory("/");
    save_state(kFrom.parent_path(), cutting, ranks, files_);
  }

  void convert(const fs::path& to, const ConvertOptions& options = {}) {
    convert_checkpoint(kFrom, to, options, files_);
  }

  std::vector<std::string> names(const fs::path& directory = "/out") {
    std::vector<std::string> names = files_.names_in(directory);
    std::ranges::sort(names);
    return names;
  }

  MemoryFiles files_;
};

TEST_F(Convert, WritesTheModelOfEveryLayout) {
  for (const Cutting cutting : kCuttings) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      start_anew(cutting, ranks);
      convert(kModel);
      EXPECT_EQ(tensor_bytes(kModel, files_), bytes_of_model());
      EXPECT_THAT(names(), ElementsAre("model.safetensors"));
    }
  }
  const SafetensorsFile model(kModel, files_);
  EXPECT_EQ(model.info("qkv").shape, (std::vector<std::int64_t>{16, 6}));
  EXPECT_EQ(model.info("bias").dtype, DType::kF64);
  EXPECT_EQ(model.metadata(), (SafetensorsMetadata{{"format", "pt"}}));
}

TEST_F(Convert, WritesAModelInPartsWithAnIndex) {
  convert(kModel, {.file_bytes = 100});
  EXPECT_THAT(names(),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json"));
  EXPECT_EQ(tensor_bytes_by_index("/out/model.safetensors.index.json", files_), bytes_of_model());
}

TEST_F(Convert, TakesAModelInParts) {
  convert(kModel, {.file_bytes = 100});
  for (const std::string from : {"/out/model.safetensors", "/out/model.safetensors.index.json"}) {
    convert_checkpoint(from, "/out/one.safetensors", {.overwrite = true}, files_);
    EXPECT_EQ(tensor_bytes("/out/one.safetensors", files_), bytes_of_model());
  }
  convert_checkpoint(kModel, kModel, {.overwrite = true}, files_);
  EXPECT_THAT(names(), ElementsAre("model.safetensors", "one.safetensors"));
  EXPECT_EQ(tensor_bytes(kModel, files_), bytes_of_model());
}

TEST_F(Convert, WritesACheckpointOfEveryLayoutInAnyNumberOfFiles) {
  for (const Cutting cutting : kCuttings) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      start_anew(cutting, ranks);
      convert(kStepFolder, {.files = 5 - ranks});
      expect_state(kStepFolder, files_);
      EXPECT_EQ(names(kStepFolder).size(), static_cast<std::size_t>(5 - ranks + 1));
    }
  }
}

// By the description of the format alone: of the 800 bytes of all tensors in the order of their
// names, each file has a quarter.
TEST_F(Convert, CutsACheckpointIntoFilesOfEqualSize) {
  convert(kStepFolder, {.files = 4});
  EXPECT_THAT(names(kStepFolder),
              ElementsAre("manifest.json", "rank-0.safetensors", "rank-1.safetensors",
                          "rank-2.safetensors", "rank-3.safetensors"));
  const auto manifest = nlohmann::json::parse(read_file(kStepFolder / "manifest.json", files_));
  EXPECT_EQ(manifest["manifest"]["version"], 2);
  std::string weights, moments;
  for (int file = 0; file < 4; ++file) {
    std::size_t bytes = 0;
    for (const auto& [name, values] :
         tensor_bytes(kStepFolder / ("rank-" + std::to_string(file) + ".safetensors"), files_)) {
      bytes += values.size();
      if (name.starts_with("model.qkv")) weights += values;
      if (name.starts_with("optimizer.qkv.exp_avg")) moments += values;
    }
    EXPECT_EQ(bytes, 200u);
  }
  EXPECT_EQ(weights, bytes_of_values<float>(96, weight_at));
  EXPECT_EQ(moments, bytes_of_values<float>(96, moment_at));
}

TEST_F(Convert, WritesNoMoreFilesThanThereAreElements) {
  convert(kStepFolder, {.files = 4096});
  expect_state(kStepFolder, files_);
  EXPECT_EQ(names(kStepFolder).size(), 2 * 96 + 3 + 1 + 1u);
}

TEST_F(Convert, TakesTheNewestCheckpointOfARunDirectory) {
  Changes later;
  later.state.step = 30;
  later.weight = [](std::int64_t) { return 1.0f; };
  save_state(kFrom.parent_path(), Cutting::kRanges, 2, files_, 16, 6, later);
  for (const std::string from : {"/run", "/run/", "/run/checkpoints"}) {
    convert_checkpoint(from, kModel, {.overwrite = true}, files_);
    EXPECT_EQ(tensor_bytes(kModel, files_)["qkv"],
              bytes_of_values<float>(96, [](std::int64_t) { return 1.0f; }));
  }
}

TEST_F(Convert, ReplacesACheckpointByItsOwnFilesJoined) {
  EXPECT_EQ(names(kFrom).size(), 4u);
  convert(kFrom, {.overwrite = true});
  EXPECT_THAT(names(kFrom), ElementsAre("manifest.json", "rank-0.safetensors"));
  EXPECT_THAT(names(kFrom.parent_path()), ElementsAre("step-20"));
  expect_state(kFrom, files_);
}

// A crash has left the only checkpoint under another name, which the new one takes back.
TEST_F(Convert, TakesACheckpointThatWasBeingReplaced) {
  files_.rename(kFrom, "/run/checkpoints/step-20.replaced");
  convert_checkpoint("/run", kFrom, {}, files_);
  EXPECT_THAT(names(kFrom.parent_path()), ElementsAre("step-20"));
  expect_state(kFrom, files_);
}

TEST(ConvertOldFormat, WritesFormat2) {
  const fs::path data = TRIREME_CHECKPOINTS;
  MemoryFiles files;
  files.make_directory("/old");
  files.make_directory("/out");
  for (const std::string name : {"manifest.json", "rank-0.safetensors", "rank-1.safetensors"}) {
    write_file_atomically("/old/" + name, read_file(data / "format-1/step-30" / name), files);
  }
  convert_checkpoint("/old", "/out/step-30", {.files = 3}, files);
  EXPECT_THAT(read_file("/out/step-30/manifest.json", files), HasSubstr("\"version\": 2"));
  const OwnedTensor<> weight("model.layer.weight", Region({5, 3}));
  const RunState state = load_checkpoint("/out/step-30", std::span(&weight.tensor, 1), files);
  OwnedTensor<> expected("", Region({5, 3}));
  fill_by_place(expected, weight_at);
  EXPECT_EQ(weight.values, expected.values);
  EXPECT_EQ(state.metadata.at("training.seed"), "7");
}

TEST_F(Convert, NeedsMemoryForAPieceAndReadsEachByteOnceAndOnceToHash) {
  constexpr std::int64_t kRows = 1200, kColumns = 1024;  // more than a piece
  for (const Cutting cutting : kCuttings) {
    files_.clear();
    save_state(kFrom.parent_path(), cutting, 3, files_, kRows, kColumns);
    std::int64_t stored = 0;
    for (const std::string& name : names(kFrom)) {
      if (name.ends_with(".safetensors")) stored += files_.open(kFrom / name)->size();
    }
    CountingFiles counting(files_);
    convert_checkpoint(kFrom, kStepFolder, {}, counting);
    const std::int64_t read = counting.read_below(kFrom);
    EXPECT_GE(read, 2 * stored - 3000);
    EXPECT_LE(read, 2 * stored + 3000) << "headers are read twice, the manifest once";
    EXPECT_LE(counting.longest(), kPieceBytes);
  }
  EXPECT_EQ(read_file(kStepFolder / "rank-0.safetensors", files_).size() / kPieceBytes, 2u);
  expect_state(kStepFolder, files_, kRows, kColumns);
}

TEST_F(Convert, WritesNothingWhereSomethingIsUnlessItIsTold) {
  write_file_atomically(kModel, "text", files_);
  EXPECT_THAT(error_of<UsageError>([&] { convert(kModel); }),
              HasSubstr("/out/model.safetensors exists already"));
  EXPECT_EQ(read_file(kModel, files_), "text");
  convert(kModel, {.overwrite = true});
  EXPECT_EQ(tensor_bytes(kModel, files_), bytes_of_model());

  convert(kModel, {.file_bytes = 100, .overwrite = true});
  EXPECT_THAT(error_of<UsageError>([&] { convert(kModel); }), HasSubstr("exists already"));

  files_.make_directory(kStepFolder);
  EXPECT_THAT(error_of<UsageError>([&] { convert(kStepFolder); }),
              HasSubstr("/out/step-20 exists already"));
  convert(kStepFolder, {.overwrite = true});
  expect_state(kStepFolder, files_);
}

TEST_F(Convert, RefusesWhatItCannotWrite) {
  const auto refused = [&](const fs::path& from, const fs::path& to,
                           const ConvertOptions& options = {}) {
    return error_of<UsageError>([&] { convert_checkpoint(from, to, options, files_); });
  };
  EXPECT_THAT(refused(kFrom, "/out/step-21"), HasSubstr("step-20, got /out/step-21"));
  EXPECT_THAT(refused(kFrom, "/out/model.safetensors.index.json"), HasSubstr("NAME.safetensors"));
  EXPECT_THAT(refused(kFrom, kModel, {.files = 2}), HasSubstr("by the bytes of a file"));
  EXPECT_THAT(refused(kFrom, kStepFolder, {.file_bytes = 9}), HasSubstr("by the number of files"));
  EXPECT_THAT(refused(kFrom, kStepFolder, {.files = 0}), HasSubstr("files must be 1 to 4096"));
  EXPECT_THAT(refused(kFrom, kStepFolder, {.files = 5000}), HasSubstr("got 5000"));
  EXPECT_THAT(refused(kFrom, kModel, {.file_bytes = -1}), HasSubstr("not negative"));
  convert(kModel);
  EXPECT_THAT(refused(kModel, kStepFolder), HasSubstr("model.weights"));
  write_file_atomically(kStepFolder, "text", files_);
  EXPECT_THAT(refused(kFrom, kStepFolder, {.overwrite = true}), HasSubstr("must be a folder"));
  EXPECT_THAT(error_of<DataError>([&] { convert_checkpoint("/nowhere", kModel, {}, files_); }),
              HasSubstr("/nowhere"));
  EXPECT_THAT(error_of<DataError>([&] { convert_checkpoint("/out", kModel, {}, files_); }),
              HasSubstr("no complete checkpoint in it"));
  EXPECT_THAT(names(), ElementsAre("model.safetensors", "step-20"));
}

// Each length of a file of a checkpoint and of a part of a model, and each byte of it changed.
TEST_F(Convert, OfDamagedFilesNamesTheFileAndWritesNothing) {
  const auto expect_refused = [&](const fs::path& from, const fs::path& damaged) {
    EXPECT_THAT(
        error_of<DataError>([&] { convert_checkpoint(from, "/new/one.safetensors", {}, files_); }),
        HasSubstr(damaged.string()));
    EXPECT_EQ(files_.kind_of("/new"), FileKind::kNone);
  };
  convert(kModel, {.file_bytes = 100});
  for (const fs::path& path : {kFrom / "rank-1.safetensors", kFrom / "manifest.json",
                               fs::path("/out/model-00002-of-00002.safetensors"),
                               fs::path("/out/model.safetensors.index.json")}) {
    const bool is_model = path.parent_path() == "/out";
    const fs::path from = is_model ? fs::path("/out/model.safetensors.index.json") : kFrom;
    const std::string whole = read_file(path, files_);
    // The last bytes of the texts are ends of lines.
    for (std::size_t length = 0; length + 2 < whole.size(); length += 3) {
      write_file_atomically(path, whole.substr(0, length), files_);
      expect_refused(from, path);
    }
    if (!is_model) {
      std::string changed = whole;
      changed[whole.size() / 2] ^= 1;
      write_file_atomically(path, changed, files_);
      expect_refused(from, path);
    }
    if (path.filename() != "manifest.json") {
      files_.remove(path);
      expect_refused(from, path);
    }
    write_file_atomically(path, whole, files_);
  }
}

struct Target {
  fs::path path;
  ConvertOptions options;
  bool exists = false;
};

// What is there of the target, which is whole: 0: nothing, 1: the old one, 2: the new one.
class ConvertFailure : public Convert, public testing::WithParamInterface<Target> {
 protected:
  static constexpr int kMaxOperations = 400;

  ConvertFailure() {
    Changes old;
    old.state.metadata["training.seed"] = "8";
    save_state("/old", Cutting::kRanges, 2, files_, 16, 6, old);
    for (const fs::path& folder : {kFrom, fs::path("/old/step-20")}) {
      for (const std::string& name : names(folder)) {
        contents_[folder / name] = read_file(folder / name, files_);
      }
    }
  }

  void prepare() {
    files_.clear();
    for (const auto& [path, bytes] : contents_) {
      const bool is_old = path.parent_path() == "/old/step-20";
      if (is_old && (is_model() || !GetParam().exists)) continue;
      const fs::path at = is_old ? kStepFolder / path.filename() : path;
      make_directories(at.parent_path(), files_);
      write_file_atomically(at, bytes, files_);
    }
    make_directories("/out", files_);
    if (GetParam().exists && is_model()) write_file_atomically(kModel, "old", files_);
  }

  bool is_model() const { return GetParam().path == kModel; }

  void write() {
    ConvertOptions options = GetParam().options;
    options.overwrite = GetParam().exists;
    convert(GetParam().path, options);
  }

  int found() {
    if (is_model()) {
      const bool is_one = files_.kind_of(kModel) == FileKind::kFile;
      if (is_one && read_file(kModel, files_) == "old") return 1;
      const fs::path index = kModel.string() + ".index.json";
      if (!is_one && files_.kind_of(index) == FileKind::kNone) return 0;
      EXPECT_EQ(is_one ? tensor_bytes(kModel, files_) : tensor_bytes_by_index(index, files_),
                bytes_of_model());
      return 2;
    }
    const auto latest = latest_checkpoint("/out", files_);
    if (!latest) return 0;
    if (state_of_checkpoint(*latest, files_).metadata.at("training.seed") == "8") return 1;
    expect_state(*latest, files_);
    return 2;
  }

  std::map<fs::path, std::string> contents_;

  // A fault is set by `set` for each operation in turn; `check` looks at what is left.
  void for_each_operation(const std::function<void(int)>& set,
                          const std::function<void(bool has_failed)>& check) {
    for (int operation = 0;; ++operation) {
      ASSERT_LT(operation, kMaxOperations);
      prepare();
      set(operation);
      bool has_failed = false;
      try {
        write();
      } catch (const DataError&) {
        has_failed = true;
      }
      const bool has_struck = files_.clear_fault();
      check(has_failed);
      expect_state(kFrom, files_);
      if (!has_struck) {
        EXPECT_FALSE(has_failed);
        EXPECT_EQ(found(), 2);
        EXPECT_GT(operation, 20);
        return;
      }
    }
  }
};

TEST_P(ConvertFailure, ALossOfPowerLeavesTheOldOrTheNewOneWhole) {
  for (const Kept kept : {Kept::kNothing, Kept::kNames, Kept::kNamesAndHalfOfContents}) {
    for_each_operation([&](int operation) { files_.cut_power_at(operation); },
                       [&](bool) {
                         files_.restore_power(kept);
                         EXPECT_THAT(found(), AnyOf(GetParam().exists ? 1 : 0, 2));
                       });
  }
}

TEST_P(ConvertFailure, AnErrorLeavesTheOldOrTheNewOneWhole) {
  for_each_operation([&](int operation) { files_.fail_at(operation, EIO); },
                     [&](bool) { EXPECT_THAT(found(), AnyOf(GetParam().exists ? 1 : 0, 2)); });
}

TEST_P(ConvertFailure, AFullDiskIsAnErrorAndLeavesNothingBehind) {
  int failures = 0;
  for (std::int64_t space = 0;; space += 101) {
    ASSERT_LT(space, 20000);
    prepare();
    const std::vector<std::string> before = names();
    files_.limit_space(space);
    std::string error;
    try {
      write();
    } catch (const DataError& caught) {
      error = caught.what();
    }
    files_.clear_fault();
    if (error.empty()) break;
    ++failures;
    EXPECT_THAT(error, HasSubstr("No space left on device"));
    EXPECT_THAT(error, HasSubstr("/out/"));
    EXPECT_EQ(names(), before);
    EXPECT_EQ(found(), GetParam().exists ? 1 : 0);
    expect_state(kFrom, files_);
  }
  EXPECT_EQ(found(), 2);
  EXPECT_GT(failures, 5);
}

INSTANTIATE_TEST_SUITE_P(, ConvertFailure,
                         testing::Values(Target{kModel, {}, false}, Target{kModel, {}, true},
                                         Target{kModel, {.file_bytes = 100}, false},
                                         Target{kModel, {.file_bytes = 100}, true},
                                         Target{kStepFolder, {}, false},
                                         Target{kStepFolder, {.files = 3}, false},
                                         Target{kStepFolder, {.files = 3}, true}),
                         [](const auto& info) {
                           const bool is_model = info.param.path == kModel;
                           const std::string what = is_model ? "Model" : "Checkpoint";
                           const bool has_parts =
                               info.param.options.file_bytes > 0 || info.param.options.files > 1;
                           return what + (has_parts ? "InParts" : "") +
                                  (info.param.exists ? "OverAnOldOne" : "");
                         });

}  // namespace
}  // namespace trireme::test
