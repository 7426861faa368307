// A model in one file or in several: how it is cut, and that one model replaces another as a whole.
#include "trireme/formats/safetensors_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <set>

#include "tests/base/memory_files.h"
#include "tests/formats/error_of.h"
#include "tests/formats/tensor_bytes.h"
#include "trireme/base/error.h"
#include "trireme/formats/safetensors_index.h"

namespace trireme::test {
namespace {

using testing::AnyOf;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const std::filesystem::path kModel = "/model/model.safetensors";
const std::filesystem::path kIndex = "/model/model.safetensors.index.json";

// Tensors of so many bytes, all of them `value`, under the names a, b, c, ...
class Tensors {
 public:
  Tensors(const std::vector<std::size_t>& sizes, char value) {
    for (const std::size_t size : sizes) bytes_.emplace_back(size, value);
  }

  std::vector<NamedBuffer> buffers() {
    std::vector<NamedBuffer> buffers;
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      const auto count = static_cast<std::int64_t>(bytes_[i].size());
      buffers.push_back({name(i), {count}, {bytes_[i].data(), count, DType::kU8}});
    }
    return buffers;
  }

  std::map<std::string, std::string> by_name() const {
    std::map<std::string, std::string> all;
    for (std::size_t i = 0; i < bytes_.size(); ++i) all[name(i)] = bytes_[i];
    return all;
  }

 private:
  static std::string name(std::size_t i) { return std::string(1, static_cast<char>('a' + i)); }

  std::vector<std::string> bytes_;
};

class SafetensorsModel : public testing::Test {
 protected:
  SafetensorsModel() { files_.make_directory("/model"); }

  void write(Tensors tensors, std::int64_t part_bytes) {
    write_safetensors_model(kModel, tensors.buffers(), {{"format", "pt"}}, part_bytes, files_);
  }

  // Names of tensors in a file.
  std::vector<std::string> in(const std::string& file) {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : tensor_bytes("/model/" + file, files_)) names.push_back(name);
    return names;
  }

  std::vector<std::string> names() {
    std::vector<std::string> names = files_.names_in("/model");
    std::ranges::sort(names);
    return names;
  }

  // What the model is, by the description of the two forms alone.
  std::map<std::string, std::string> model() {
    if (files_.kind_of(kModel) != FileKind::kNone) return tensor_bytes(kModel, files_);
    return tensor_bytes_by_index(kIndex, files_);
  }

  // What SafetensorsFiles reads.
  std::map<std::string, std::string> read() {
    const SafetensorsFiles model(kModel, files_);
    std::map<std::string, std::string> bytes;
    for (const std::string& name : model.names()) bytes[name] = model.bytes(name);
    return bytes;
  }

  MemoryFiles files_;
};

TEST_F(SafetensorsModel, HasFilesAndAnIndexAsHuggingFaceWritesThem) {
  write(Tensors({8, 8, 16, 1}, 'x'), 16);
  EXPECT_THAT(names(),
              ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", "model.safetensors.index.json"));
  EXPECT_THAT(in("model-00001-of-00003.safetensors"), ElementsAre("a", "b"));
  EXPECT_THAT(in("model-00002-of-00003.safetensors"), ElementsAre("c"));
  EXPECT_THAT(in("model-00003-of-00003.safetensors"), ElementsAre("d"));
  const char* const kWanted = R"({
  "metadata": {
    "total_size": 33
  },
  "weight_map": {
    "a": "model-00001-of-00003.safetensors",
    "b": "model-00001-of-00003.safetensors",
    "c": "model-00002-of-00003.safetensors",
    "d": "model-00003-of-00003.safetensors"
  }
}
)";
  EXPECT_EQ(read_file(kIndex, files_), kWanted);
  EXPECT_EQ(SafetensorsFile("/model/model-00003-of-00003.safetensors", files_).metadata(),
            (SafetensorsMetadata{{"format", "pt"}}));
  EXPECT_EQ(read(), Tensors({8, 8, 16, 1}, 'x').by_name());
}

TEST_F(SafetensorsModel, ATensorLargerThanAFileHasOneOfItsOwn) {
  write(Tensors({4, 100, 4, 4, 100}, 'x'), 8);
  EXPECT_THAT(in("model-00001-of-00004.safetensors"), ElementsAre("a"));
  EXPECT_THAT(in("model-00002-of-00004.safetensors"), ElementsAre("b"));
  EXPECT_THAT(in("model-00003-of-00004.safetensors"), ElementsAre("c", "d"));
  EXPECT_THAT(in("model-00004-of-00004.safetensors"), ElementsAre("e"));
  EXPECT_EQ(read(), Tensors({4, 100, 4, 4, 100}, 'x').by_name());
}

TEST_F(SafetensorsModel, IsOneFileIfItFitsOrIsNotLimited) {
  for (const std::int64_t part_bytes : {0, 16, 1000}) {
    files_.clear();
    files_.make_directory("/model");
    write(Tensors({8, 8}, 'x'), part_bytes);
    EXPECT_THAT(names(), ElementsAre("model.safetensors")) << part_bytes;
  }
  write(Tensors({100}, 'x'), 16);
  EXPECT_THAT(names(), ElementsAre("model.safetensors"));
  write(Tensors({}, 'x'), 16);
  EXPECT_THAT(names(), ElementsAre("model.safetensors"));
}

TEST_F(SafetensorsModel, LiesInTheWorkingDirectoryIfItsPathSaysNoOther) {
  Tensors tensors({8, 8}, 'x');
  write_safetensors_model("weights", tensors.buffers(), {}, 8, files_);
  EXPECT_EQ(tensor_bytes_by_index("weights.index.json", files_), tensors.by_name());
  EXPECT_THAT(safetensors_model_files("weights", files_),
              UnorderedElementsAre("weights.index.json", "weights-00001-of-00002",
                                   "weights-00002-of-00002"));
}

TEST_F(SafetensorsModel, LeavesNothingOfTheFormBefore) {
  const std::vector<std::int64_t> forms = {0, 8, 16, 8, 8, 8, 0};
  char value = 'a';
  for (const std::int64_t part_bytes : forms) {
    write(Tensors({8, 8, 8}, ++value), part_bytes);
    EXPECT_EQ(read(), Tensors({8, 8, 8}, value).by_name());
    const std::size_t wanted = part_bytes == 0 ? 1 : part_bytes == 8 ? 4 : 3;
    EXPECT_EQ(names().size(), wanted) << testing::PrintToString(names());
  }
}

TEST_F(SafetensorsModel, TouchesNoOtherFiles) {
  const std::vector<std::string> others = {
      "model-1-of-2.safetensors",          "model-00001-of-00002.bin",
      "model-00001-of-00002.safetensors2", "model-x-00001-of-00002.safetensors",
      "model.-00001-of-00002.safetensors", "other.safetensors"};
  for (const std::string& name : others) write_file_atomically("/model/" + name, "text", files_);
  write(Tensors({8, 8}, 'x'), 8);
  write(Tensors({8, 8}, 'y'), 0);
  remove_unused_parts(kModel, files_);
  EXPECT_THAT(names().size(), others.size() + 1) << testing::PrintToString(names());
  for (const std::string& name : others) {
    EXPECT_FALSE(is_of_safetensors_model(name, "model.safetensors")) << name;
  }
}

// An index that someone has written must not have files removed that are no parts.
TEST_F(SafetensorsModel, RemovesNoFileThatIsNoPartThoughTheIndexNamesIt) {
  write_file_atomically("/model/notes.txt", "text", files_);
  write_file_atomically(kIndex, R"({"weight_map": {"a": "notes.txt"}})", files_);
  write(Tensors({8}, 'x'), 0);
  EXPECT_THAT(names(), ElementsAre("model.safetensors", "notes.txt"));
}

TEST_F(SafetensorsModel, ReplacesADamagedIndex) {
  for (const std::int64_t part_bytes : {0, 8}) {
    write_file_atomically(kIndex, "{", files_);
    write(Tensors({8, 8}, 'x'), part_bytes);
    EXPECT_EQ(read(), Tensors({8, 8}, 'x').by_name());
  }
}

TEST_F(SafetensorsModel, RefusesNamesThatComeTwiceAndThePathOfAnIndex) {
  Tensors tensors({8, 8}, 'x');
  std::vector<NamedBuffer> twice = tensors.buffers();
  twice[1].name = "a";
  EXPECT_THAT(error_of<UsageError>([&] { write_safetensors_model(kModel, twice, {}, 8, files_); }),
              HasSubstr("\"a\" comes twice"));
  EXPECT_THAT(error_of<UsageError>(
                  [&] { write_safetensors_model(kIndex, tensors.buffers(), {}, 8, files_); }),
              HasSubstr("got that of an index"));
  EXPECT_THAT(names(), IsEmpty());
}

// From one form to another: where `before` is -1 there is no model.
struct Change {
  std::int64_t before;
  std::int64_t after;
};

class SafetensorsModelChange : public SafetensorsModel, public testing::WithParamInterface<Change> {
 protected:
  static constexpr int kMaxOperations = 300;

  // A fault is set by `set` for each operation of the write in turn; `check` looks at what is left.
  void for_each_operation(const std::function<void(int)>& set, const std::function<void()>& check) {
    const auto [before, after] = GetParam();
    for (int operation = 0;; ++operation) {
      ASSERT_LT(operation, kMaxOperations);
      files_.clear();
      files_.make_directory("/model");
      files_.sync_directory("/");
      if (before >= 0) write(old_, before);
      set(operation);
      try {
        write(new_, after);
      } catch (const DataError&) {
      }
      const bool has_struck = files_.clear_fault();
      check();
      if (!has_struck) {
        EXPECT_EQ(model(), new_.by_name());
        EXPECT_GT(operation, 5);
        return;
      }
    }
  }

  bool is_there() {
    return files_.kind_of(kModel) != FileKind::kNone || files_.kind_of(kIndex) != FileKind::kNone;
  }

  void expect_one_of_the_models() {
    if (!is_there() && GetParam().before < 0) return;
    EXPECT_THAT(model(), AnyOf(old_.by_name(), new_.by_name()));
    EXPECT_EQ(read(), model());
  }

  void expect_only_what_counts() {
    if (!is_there()) {
      EXPECT_THAT(names(), IsEmpty());
    } else if (files_.kind_of(kModel) != FileKind::kNone) {
      EXPECT_THAT(names(), ElementsAre("model.safetensors"));
    } else {
      std::set<std::string> wanted = {kIndex.filename().string()};
      const auto index = nlohmann::json::parse(read_file(kIndex, files_));
      for (const auto& [tensor, file] : index["weight_map"].items()) wanted.insert(file);
      EXPECT_THAT(names(), ElementsAreArray(wanted));
    }
  }

  const Tensors old_{{8, 8, 8}, 'o'};
  const Tensors new_{{8, 8, 8}, 'n'};
};

TEST_P(SafetensorsModelChange, ALossOfPowerLeavesTheOldModelOrTheNewOne) {
  for (const Kept kept : {Kept::kNothing, Kept::kNames, Kept::kNamesAndHalfOfContents}) {
    for_each_operation([&](int operation) { files_.cut_power_at(operation); },
                       [&] {
                         files_.restore_power(kept);
                         expect_one_of_the_models();
                       });
  }
}

TEST_P(SafetensorsModelChange, AnErrorLeavesTheOldModelOrTheNewOneAndNoUnusedParts) {
  for_each_operation([&](int operation) { files_.fail_at(operation, EIO); },
                     [&] {
                       expect_one_of_the_models();
                       remove_unused_parts(kModel, files_);
                       expect_one_of_the_models();
                       expect_only_what_counts();
                       write(new_, GetParam().after);
                       EXPECT_EQ(read(), new_.by_name());
                       expect_only_what_counts();
                     });
}

TEST_P(SafetensorsModelChange, AFullDiskKeepsTheOldModelAndNothingElse) {
  const auto [before, after] = GetParam();
  for (std::int64_t space = 0;; space += 101) {
    files_.clear();
    files_.make_directory("/model");
    if (before >= 0) write(old_, before);
    const std::vector<std::string> names_before = names();
    files_.limit_space(space);
    try {
      write(new_, after);
    } catch (const DataError&) {
    }
    if (!files_.clear_fault()) break;
    ASSERT_LT(space, 10000);
    EXPECT_THAT(names(), ElementsAreArray(names_before));
    if (before >= 0) {
      EXPECT_EQ(read(), old_.by_name());
    }
  }
  EXPECT_EQ(read(), new_.by_name());
}

INSTANTIATE_TEST_SUITE_P(Forms, SafetensorsModelChange,
                         testing::Values(Change{-1, 0}, Change{-1, 8}, Change{0, 0}, Change{0, 8},
                                         Change{8, 0}, Change{8, 8}, Change{8, 16}, Change{16, 8}),
                         [](const auto& info) {
                           const auto name = [](std::int64_t bytes) {
                             return bytes < 0    ? std::string("None")
                                    : bytes == 0 ? std::string("OneFile")
                                                 : "PartsOf" + std::to_string(bytes);
                           };
                           return name(info.param.before) + "To" + name(info.param.after);
                         });

}  // namespace
}  // namespace trireme::test
