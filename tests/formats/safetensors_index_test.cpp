#include "trireme/formats/safetensors_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "tests/base/memory_files.h"
#include "tests/formats/error_of.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class SafetensorsIndex : public testing::Test {
 protected:
  SafetensorsIndex() { files_.make_directory("/model"); }

  void write(const std::string& file, const std::string& tensor, float value) {
    std::array<float, 1> values{value};
    const std::array<NamedBuffer, 1> tensors{{{tensor, {1}, buffer_of<float>(values)}}};
    write_safetensors(file, tensors, {}, files_);
  }
  void write_index(const std::string& json) {
    write_file_atomically("/model/model.safetensors.index.json", json, files_);
  }
  std::string refusal() {
    return error_of<DataError>(
        [&] { SafetensorsFiles("/model/model.safetensors.index.json", files_); });
  }

  test::MemoryFiles files_;
};

TEST_F(SafetensorsIndex, FindsEachTensorInItsFile) {
  write("/model/1.safetensors", "a", 1);
  write("/model/2.safetensors", "b", 2);
  write_index(R"({"weight_map": {"b": "2.safetensors", "a": "1.safetensors"}})");
  const SafetensorsFiles model("/model/model.safetensors.index.json", files_);
  EXPECT_THAT(model.names(), ElementsAre("a", "b"));
  for (const auto& [name, wanted] : {std::pair("a", 1.0f), std::pair("b", 2.0f)}) {
    std::array<float, 1> value{};
    model.read(name, buffer_of<float>(value));
    EXPECT_EQ(value[0], wanted);
  }
  EXPECT_FALSE(model.contains("c"));
  EXPECT_THAT(error_of<DataError>([&] { model.info("c"); }), HasSubstr("no tensor \"c\""));
}

TEST_F(SafetensorsIndex, OfOneFileIsTheFile) {
  write("/model/model.safetensors", "a", 3);
  EXPECT_THAT(SafetensorsFiles("/model/model.safetensors", files_).names(), ElementsAre("a"));
}

TEST_F(SafetensorsIndex, RefusesWhatItCannotFind) {
  write("/model/1.safetensors", "a", 1);
  write_index(R"({"weight_map": {"b": "1.safetensors"}})");
  EXPECT_THAT(refusal(), HasSubstr("\"b\" must be in /model/1.safetensors"));
  write_index(R"({"weight_map": {"b": "2.safetensors"}})");
  EXPECT_THAT(refusal(), HasSubstr("/model/2.safetensors"));
}

TEST(SafetensorsIndexJson, RefusesWhatIsNoIndex) {
  for (const char* json :
       {"", "[]", "{}", R"({"weight_map": {}})", R"({"weight_map": []})",
        R"({"weight_map": {"a": 1}})", R"({"weight_map": {"a": "../b"}})",
        R"({"weight_map": {"a": "/etc/passwd"}})", R"({"weight_map": {"a": ".."}})",
        R"({"weight_map": {"a": "b\u0000c"}})", R"({"weight_map": {"a": ""}})"}) {
    EXPECT_THROW(parse_safetensors_index(json, "index"), DataError) << json;
  }
}

}  // namespace
}  // namespace trireme
