#include "trireme/checkpoint/model_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
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
  save_model(path, model, {.metadata = {{"step", "12"}}});

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

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

// A file written by the description of the format alone.
class LoadModel : public testing::Test {
 protected:
  template <class T>
  void add(const std::string& name, const char* type, const std::vector<std::int64_t>& shape,
           const std::vector<T>& values) {
    const std::size_t begin = data_.size();
    data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    header_[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }

  std::filesystem::path write() {
    const std::string json = header_.dump();
    const std::uint64_t length = json.size();
    std::ofstream out(path(), std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), 8);
    out << json << data_;
    return path();
  }

  std::filesystem::path path() const { return folder_.path() / "model.safetensors"; }

  // A file that fits model().
  void add_all() {
    add<float>("w", "F32", {2, 3}, {1, 2, 3, 4, 5, 6});
    add<double>("b", "F64", {2}, {-1, 0.5});
    add<std::int64_t>("count", "I64", {}, {(std::int64_t{1} << 60) + 1});
  }

  static NamedTensors model() {
    NamedTensors model;
    model.parameters = {{"w", at::zeros({2, 3}).requires_grad_(true)},
                        {"b", at::zeros({2}, at::kDouble).requires_grad_(true)}};
    model.buffers = {{"count", at::zeros({}, at::kLong)}};
    return model;
  }

 private:
  nlohmann::json header_ = nlohmann::json::object();
  std::string data_;
  TemporaryFolder folder_;
};

TEST_F(LoadModel, FillsParametersAndBuffersByName) {
  add_all();
  const NamedTensors model = this->model();
  const void* const memory = model.parameters[0].second.data_ptr();
  const LoadedModel left_out = load_model(write(), model);
  EXPECT_THAT(left_out.missing, IsEmpty());
  EXPECT_THAT(left_out.unexpected, IsEmpty());
  EXPECT_TRUE(model.parameters[0].second.equal(at::arange(1, 7, at::kFloat).view({2, 3})));
  EXPECT_TRUE(model.parameters[0].second.requires_grad());
  EXPECT_EQ(model.parameters[0].second.data_ptr(), memory);
  EXPECT_TRUE(model.parameters[1].second.equal(at::tensor({-1.0, 0.5}, at::kDouble)));
  EXPECT_EQ(model.buffers[0].second.item<std::int64_t>(), (std::int64_t{1} << 60) + 1);
}

// As Hugging Face's GPT2LMHeadModel is saved, with masks that are no parameters.
TEST_F(LoadModel, FindsNamesBehindAPrefixAndPassesOverWhatIsIgnored) {
  add<float>("transformer.w", "F32", {2, 3}, {1, 2, 3, 4, 5, 6});
  add<double>("b", "F64", {2}, {-1, 0.5});
  add<std::int64_t>("transformer.count", "I64", {}, {7});
  add<float>("transformer.h.0.attn.bias", "F32", {1}, {1});
  const NamedTensors model = this->model();
  const std::filesystem::path path = write();
  EXPECT_THROW(load_model(path, model), UsageError);
  load_model(path, model, {.prefixes = {"transformer."}, .ignored = {"*.attn.bias"}});
  EXPECT_EQ(model.parameters[0].second.sum().item<float>(), 21);
  EXPECT_EQ(model.buffers[0].second.item<std::int64_t>(), 7);
}

TEST_F(LoadModel, ReadsSeveralFilesByTheirIndex) {
  add<float>("w", "F32", {2, 3}, {1, 2, 3, 4, 5, 6});
  add<double>("b", "F64", {2}, {-1, 0.5});
  const std::filesystem::path first = write();
  const std::filesystem::path second = first.parent_path() / "second.safetensors";
  save_model(second, {.buffers = {{"count", at::full({}, 9, at::kLong)}}});
  const std::filesystem::path index = first.parent_path() / "model.safetensors.index.json";
  const nlohmann::json json = {{"weight_map",
                                {{"w", first.filename().string()},
                                 {"b", first.filename().string()},
                                 {"count", "second.safetensors"}}}};
  write_file_atomically(index, json.dump());
  const NamedTensors model = this->model();
  load_model(index, model);
  EXPECT_EQ(model.parameters[0].second.sum().item<float>(), 21);
  EXPECT_EQ(model.buffers[0].second.item<std::int64_t>(), 9);
}

TEST_F(LoadModel, NamesWhatIsMissingAndUnexpected) {
  add<float>("w", "F32", {2, 3}, {1, 2, 3, 4, 5, 6});
  add<float>("extra", "F32", {1}, {1});
  write();
  const NamedTensors model = this->model();
  EXPECT_THAT(
      [&] { load_model(path(), model); },
      ThrowsMessage<UsageError>(AllOf(HasSubstr("has no tensor \"b\", \"count\""),
                                      HasSubstr("has \"extra\", which the model does not"))));
  EXPECT_TRUE(model.parameters[0].second.equal(at::zeros({2, 3}))) << "nothing has changed";
  const LoadedModel left_out = load_model(path(), model, {.strict = false});
  EXPECT_THAT(left_out.missing, ElementsAre("b", "count"));
  EXPECT_THAT(left_out.unexpected, ElementsAre("extra"));
  EXPECT_EQ(model.parameters[0].second.sum().item<float>(), 21);
}

TEST_F(LoadModel, SaysWhatATensorIsInTheFileAndInTheModel) {
  const auto refused = [&](const NamedTensors& model, const std::string& what) {
    for (const bool strict : {true, false}) {
      EXPECT_THAT([&] { load_model(path(), model, {.strict = strict}); },
                  ThrowsMessage<UsageError>(AllOf(HasSubstr("tensor \"w\" is "), HasSubstr(what))));
    }
  };
  add<float>("w", "F32", {3, 2}, {1, 2, 3, 4, 5, 6});
  write();
  NamedTensors model;
  model.parameters = {{"w", at::zeros({2, 3})}};
  refused(model, "f32[3, 2] in the file and f32[2, 3] in the model");
  model.parameters = {{"w", at::zeros({3, 2}, at::kHalf)}};
  refused(model, "f32[3, 2] in the file and f16[3, 2] in the model");
  model.parameters = {{"w", at::zeros({3, 2}, at::kLong)}};
  refused(model, "f32[3, 2] in the file and i64[3, 2] in the model");
}

TEST_F(LoadModel, WidensFloatingTypesThatLoseNothing) {
  add<std::uint16_t>("half", "F16", {2}, {0x3c01, 0xfbff});  // 1 + 2^-10, -65504
  add<std::uint16_t>("brain", "BF16", {1}, {0x3f81});        // 1 + 2^-7
  add<float>("single", "F32", {1}, {0.1f});
  NamedTensors model;
  model.parameters = {{"half", at::zeros({2})}, {"brain", at::zeros({1})}};
  model.buffers = {{"single", at::zeros({1}, at::kDouble)}};
  load_model(write(), model);
  EXPECT_EQ(model.parameters[0].second[0].item<float>(), 1 + 1.0f / 1024);
  EXPECT_EQ(model.parameters[0].second[1].item<float>(), -65504);
  EXPECT_EQ(model.parameters[1].second.item<float>(), 1 + 1.0f / 128);
  EXPECT_EQ(model.buffers[0].second.item<double>(), static_cast<double>(0.1f));
}

TEST_F(LoadModel, OfATensorWithSeveralNamesTakesAnyOfThem) {
  const auto tied = [] {
    const at::Tensor shared = at::zeros({2});
    NamedTensors model;
    model.parameters = {{"embedding", shared}, {"head", shared}};
    return model;
  };
  add<float>("head", "F32", {2}, {3, 4});
  NamedTensors model = tied();
  load_model(write(), model);
  EXPECT_TRUE(model.parameters[0].second.equal(at::tensor({3.f, 4.f})));

  add<float>("embedding", "F32", {2}, {3, 4});
  model = tied();
  load_model(write(), model);
  EXPECT_TRUE(model.parameters[1].second.equal(at::tensor({3.f, 4.f})));
}

TEST_F(LoadModel, RefusesTwoValuesForOneTensor) {
  const at::Tensor shared = at::zeros({2});
  NamedTensors model;
  model.parameters = {{"embedding", shared}, {"head", shared}};
  add<float>("head", "F32", {2}, {3, 4});
  add<float>("embedding", "F32", {2}, {3, 5});
  EXPECT_THAT([&] { load_model(write(), model); },
              ThrowsMessage<UsageError>(
                  HasSubstr("\"embedding\" and \"head\" are one in the model and differ")));
}

TEST_F(LoadModel, ReadsBackWhatSaveModelHasWritten) {
  const at::Tensor shared = at::arange(4, at::kFloat);
  const auto tensors = [&](bool is_filled) {
    const auto filled = [&](const at::Tensor& tensor) {
      return is_filled ? tensor : at::zeros_like(tensor);
    };
    NamedTensors model;
    model.parameters = {{"transposed", filled(at::arange(6, at::kFloat).view({2, 3})).t()},
                        {"brain", filled(at::full({3}, 1.5, at::kBFloat16))}};
    model.buffers = {{"mask", filled(at::eye(3).to(at::kBool))},
                     {"short", filled(at::full({2, 2}, -7, at::kShort))},
                     {"byte", filled(at::full({2}, -1, at::kChar))},
                     {"roots", filled(at::polar(at::ones({4}), at::arange(4, at::kFloat)))},
                     {"expanded", filled(at::arange(3, at::kFloat)).unsqueeze(0).expand({4, 3})},
                     {"part", filled(at::arange(12, at::kFloat).view({3, 4})).slice(1, 1, 3)},
                     {"empty", at::empty({0, 3})}};
    const at::Tensor tied = filled(shared);
    model.parameters.emplace_back("one", tied);
    model.parameters.emplace_back("other", tied);
    return model;
  };
  const NamedTensors saved = tensors(true), loaded = tensors(false);
  save_model(path(), saved);
  EXPECT_FALSE(Reader(path()).header.contains("other")) << "a tensor is written once";
  load_model(path(), loaded);
  for (std::size_t i = 0; i < saved.parameters.size(); ++i) {
    EXPECT_TRUE(loaded.parameters[i].second.equal(saved.parameters[i].second))
        << saved.parameters[i].first;
  }
  for (std::size_t i = 0; i < saved.buffers.size(); ++i) {
    EXPECT_TRUE(loaded.buffers[i].second.equal(saved.buffers[i].second)) << saved.buffers[i].first;
  }
}

TEST_F(LoadModel, ReadsBackWhatSaveModelHasWrittenInSeveralFiles) {
  add_all();
  const NamedTensors saved = model();
  load_model(write(), saved);
  save_model(path(), saved, {.metadata = {{"step", "12"}}, .file_bytes = 24});
  EXPECT_FALSE(std::filesystem::exists(path())) << "the form before";
  const std::filesystem::path folder = path().parent_path();
  const Reader first(folder / "model-00001-of-00002.safetensors");
  EXPECT_EQ(first.header["__metadata__"], (nlohmann::json{{"format", "pt"}, {"step", "12"}}));
  EXPECT_EQ(first.values<float>("w"), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  const Reader second(folder / "model-00002-of-00002.safetensors");
  EXPECT_EQ(second.values<double>("b"), (std::vector<double>{-1, 0.5}));
  EXPECT_EQ(second.values<std::int64_t>("count"), (std::vector<std::int64_t>{(1LL << 60) + 1}));
  for (const std::filesystem::path& name : {path(), folder / "model.safetensors.index.json"}) {
    const NamedTensors loaded = model();
    load_model(name, loaded);
    EXPECT_TRUE(loaded.parameters[0].second.equal(saved.parameters[0].second)) << name;
    EXPECT_TRUE(loaded.parameters[1].second.equal(saved.parameters[1].second)) << name;
    EXPECT_TRUE(loaded.buffers[0].second.equal(saved.buffers[0].second)) << name;
  }
}

TEST_F(LoadModel, OfAMissingOrDamagedFileThrowsDataError) {
  EXPECT_THROW(load_model(path(), model()), DataError);
  add_all();
  write();
  std::filesystem::resize_file(path(), std::filesystem::file_size(path()) - 1);
  EXPECT_THAT([&] { load_model(path(), model()); },
              ThrowsMessage<DataError>(HasSubstr("model.safetensors")));
}

}  // namespace
}  // namespace trireme
