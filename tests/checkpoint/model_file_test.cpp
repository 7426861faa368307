#include "trireme/checkpoint/model_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/formats/temporary_folder.h"
#include "trireme/base/files.h"

namespace trireme {
namespace {

// Reads the file by the description of the format alone: an 8-byte length, JSON, then the values.
struct Reader {
  explicit Reader(const std::filesystem::path& path) : bytes(read_file(path)) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    header = nlohmann::json::parse(bytes.substr(8, length));
    data = bytes.substr(8 + length);
  }

  template <class T>
  std::vector<T> values(const std::string& name) const {
    const auto offsets = header.at(name).at("data_offsets").get<std::vector<std::size_t>>();
    std::vector<T> result((offsets[1] - offsets[0]) / sizeof(T));
    std::memcpy(result.data(), data.data() + offsets[0], offsets[1] - offsets[0]);
    return result;
  }

  std::string bytes;
  nlohmann::json header;
  std::string data;
};

TEST(ModelFile, IsReadableByTheDescriptionOfTheFormat) {
  const TemporaryFolder folder;
  NamedTensors model;
  model.parameters.emplace_back("fc.weight",
                                at::arange(6, at::kFloat).view({2, 3}).requires_grad_(true));
  model.parameters.emplace_back("fc.bias", at::arange(2, at::kDouble));
  model.buffers.emplace_back("count", at::full({}, 7, at::kLong));
  const auto path = folder.path() / "model.safetensors";
  save_model(path, model, {{"step", "12"}});

  const Reader file(path);
  EXPECT_EQ(file.header["__metadata__"], (nlohmann::json{{"format", "pt"}, {"step", "12"}}));
  EXPECT_EQ(file.header["fc.weight"]["dtype"], "F32");
  EXPECT_EQ(file.header["fc.weight"]["shape"], (nlohmann::json{2, 3}));
  EXPECT_EQ(file.header["count"]["shape"], nlohmann::json::array());
  EXPECT_EQ(file.values<float>("fc.weight"), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(file.values<double>("fc.bias"), (std::vector<double>{0, 1}));
  EXPECT_EQ(file.values<std::int64_t>("count"), (std::vector<std::int64_t>{7}));
}

TEST(ModelFile, HoldsRowMajorValuesOfATensorThatLiesOtherwise) {
  const TemporaryFolder folder;
  NamedTensors model;
  model.parameters.emplace_back("w", at::arange(6, at::kFloat).view({2, 3}).t());
  save_model(folder.path() / "m", model);
  EXPECT_EQ(Reader(folder.path() / "m").values<float>("w"), (std::vector<float>{0, 3, 1, 4, 2, 5}));
}

}  // namespace
}  // namespace trireme
