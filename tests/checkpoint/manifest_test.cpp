#include "trireme/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/sha256.h"

namespace trireme {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// FIPS 180-4 and NIST's example "abc".
TEST(Sha256, AgreesWithThePublishedVectors) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1000000, 'a');
  const TemporaryFolder folder;
  EXPECT_EQ(sha256_of_file(folder.write("a", million)),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

Manifest small() {
  Manifest manifest;
  manifest.step = 3;
  manifest.files = {{"rank-0.safetensors", 100, "ab"}, {"rank-1.safetensors", 90, "cd"}};
  manifest.tensors["w"] = {DType::kF32, {2, 5}, {{0, 0, 6}, {1, 6, 4}}};
  return manifest;
}

// The refusal of small() after `change` to its JSON, with a hash that agrees.
std::string refusal(const std::function<void(json&)>& change) {
  json content = json::parse(to_json(small()));
  change(content);
  const json file = {{"manifest", content}, {"sha256", sha256(content.dump())}};
  return error_of<DataError>([&] { parse_manifest(file.dump(), "manifest.json"); });
}

TEST(Manifest, ReadsBackWhatItWrote) {
  const Manifest read = parse_manifest(to_file(small()), "manifest.json");
  EXPECT_EQ(to_json(read), to_json(small()));
  EXPECT_EQ(stored_name("w", read.tensors.at("w"), read.tensors.at("w").slices[1]), "w[6:10]");
}

TEST(Manifest, RefusesWhatIsTornOrChanged) {
  const std::string whole = to_file(small());
  for (std::size_t length = 0; length + 2 < whole.size(); ++length) {
    EXPECT_THROW(parse_manifest(whole.substr(0, length), "m"), DataError) << length;
  }
  std::string changed = whole;
  changed.replace(changed.find("\"step\": 3"), 9, "\"step\": 4");
  EXPECT_THAT(error_of<DataError>([&] { parse_manifest(changed, "m"); }),
              HasSubstr("m: its SHA-256"));
}

TEST(Manifest, RefusesSlicesThatDoNotCoverTheirTensor) {
  const auto slices = [](const std::vector<json>& value) {
    return refusal([&](json& m) { m["tensors"]["w"]["slices"] = value; });
  };
  const auto slice = [](std::int64_t file, std::int64_t offset, std::int64_t count) {
    return json{{"file", file}, {"offset", offset}, {"count", count}};
  };
  EXPECT_THAT(slices({slice(0, 0, 6)}), HasSubstr("no slice has elements 6 to 10"));
  EXPECT_THAT(slices({slice(0, 0, 11)}), HasSubstr("count 11"));
  EXPECT_THAT(slices({slice(0, 0, 6), slice(1, 5, 5)}), HasSubstr("offset 5"));
  EXPECT_THAT(slices({slice(0, 0, INT64_MAX)}), HasSubstr("count 9223372036854775807"));
  EXPECT_THAT(slices({slice(0, -4, 14)}), HasSubstr("offset -4"));
  EXPECT_THAT(slices({slice(2, 0, 10)}), HasSubstr("a slice must begin"));
  EXPECT_THAT(slices({slice(-1, 0, 10)}), HasSubstr("a slice must begin"));
}

TEST(Manifest, RefusesImpossibleShapesTypesAndNames) {
  const auto tensor = [](const char* key, const json& value) {
    return refusal([&](json& m) { m["tensors"]["w"][key] = value; });
  };
  EXPECT_THAT(tensor("shape", {INT64_MAX, 3}), HasSubstr("not the shape"));
  EXPECT_THAT(tensor("shape", {-2, -5}), HasSubstr("not the shape"));
  EXPECT_THAT(tensor("dtype", "c64"), HasSubstr("unknown type \"c64\""));
  EXPECT_THAT(refusal([](json& m) { m["files"][0]["name"] = "../model.safetensors"; }),
              HasSubstr("\"../model.safetensors\" is not the name of a file beside it"));
  EXPECT_THAT(refusal([](json& m) { m["version"] = 2; }),
              HasSubstr("got \"trireme-checkpoint\", version 2"));
  EXPECT_THAT(refusal([](json& m) { m.erase("files"); }), HasSubstr("not the manifest"));
}

TEST(Manifest, MergesPartsAndNamesTheLowestOfReplicas) {
  Manifest first, second;
  first.files = {{"rank-0.safetensors", 1, ""}};
  second.files = {{"rank-1.safetensors", 1, ""}};
  first.tensors["w"] = {DType::kF32, {10}, {{0, 4, 6}}};
  second.tensors["w"] = {DType::kF32, {10}, {{0, 0, 4}}};
  first.tensors["both"] = second.tensors["both"] = {DType::kI64, {}, {{0, 0, 1}}};
  const Manifest whole = merge(std::vector{first, Manifest{}, second});
  const auto& slices = whole.tensors.at("w").slices;
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(slices[0].file, 1u);
  EXPECT_EQ(slices[0].count, 4);
  EXPECT_EQ(slices[1].file, 0u);
  ASSERT_EQ(whole.tensors.at("both").slices.size(), 1u);
  EXPECT_EQ(whole.tensors.at("both").slices[0].file, 0u);
}

}  // namespace
}  // namespace trireme
