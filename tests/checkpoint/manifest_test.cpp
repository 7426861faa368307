#include "trireme/checkpoint/manifest.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
#include "trireme/base/sha256.h"

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
  manifest.state.step = 3;
  manifest.files = {{"rank-0.safetensors", 100, "ab"}, {"rank-1.safetensors", 90, "cd"}};
  const Region whole({2, 5});
  manifest.tensors["w"] = {
      DType::kF32, {2, 5}, {{0, whole.slice({0, 6})}, {1, whole.slice({6, 10})}}};
  return manifest;
}

std::string file_of(const json& content) {
  return json{{"manifest", content}, {"sha256", sha256(content.dump())}}.dump();
}

// The refusal of small() after `change` to its JSON, with a hash that agrees.
std::string refusal(const std::function<void(json&)>& change) {
  json content = json::parse(to_json(small()));
  change(content);
  return error_of<DataError>([&] { parse_manifest(file_of(content), "manifest.json"); });
}

std::string refusal_of_chunks(const std::vector<json>& chunks) {
  return refusal([&](json& m) { m["tensors"]["w"]["chunks"] = chunks; });
}

json range(std::int64_t file, const json& begin, const json& end) {
  return {{"file", file}, {"range", json::array({begin, end})}};
}

json columns(const json& begin, const json& end, const json& dim = 1) {
  const json kept = json::array({json::array({begin, end})});
  return {{"file", 0}, {"cuts", json::array({{{"dim", dim}, {"kept", kept}}})}};
}

TEST(Manifest, ReadsBackWhatItWrote) {
  Manifest manifest = small();
  const Region fused({6, 4}, {{0, {{0, 1}, {2, 3}, {4, 5}}}});
  const Region rest({6, 4}, {{0, {{1, 2}, {3, 4}, {5, 6}}}});
  manifest.tensors["fused"] = {
      DType::kBF16, {6, 4}, {{0, fused.slice({0, 7})}, {1, fused.slice({7, 12})}, {1, rest}}};
  manifest.state.metadata = {{"seed", "7"}};
  manifest.state.sections[sections::kPrecision] = {{"loss_scale", 65536.0}, {"steps", 3}};
  manifest.state.sections["unheard of"] = {{"flag", true}, {"text", "ünïcode"}};
  const Manifest read = parse_manifest(to_file(manifest), "manifest.json");
  EXPECT_EQ(to_json(read), to_json(manifest));
  EXPECT_EQ(read.state.sections, manifest.state.sections);
  EXPECT_EQ(read.tensors.at("fused").chunks[1].region, fused.slice({7, 12}));
  EXPECT_EQ(stored_name("w", read.tensors.at("w").chunks[1].region), "w[6:10]");
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

TEST(Manifest, RefusesChunksThatDoNotCoverTheirTensor) {
  EXPECT_THAT(refusal_of_chunks({}), HasSubstr("\"w\": its chunks hold 0 of 10 elements"));
  EXPECT_THAT(refusal_of_chunks({range(0, 0, 6)}),
              HasSubstr("manifest.json: tensor \"w\": no chunk has elements 6 to 10 of 10"));
  EXPECT_THAT(refusal_of_chunks({range(0, 0, 6), range(0, 7, 10)}),
              HasSubstr("no chunk has elements 6 to 7 of 10"));
  EXPECT_THAT(refusal_of_chunks({range(0, 0, 6), range(1, 5, 10)}),
              HasSubstr("\"w\": chunks overlap: elements 5 to 6 lie in two of them"));
  EXPECT_THAT(refusal_of_chunks({columns(0, 2)}), HasSubstr("its chunks hold 4 of 10 elements"));
  EXPECT_THAT(refusal_of_chunks({columns(0, 2), columns(1, 5)}),
              HasSubstr("\"w\": chunks overlap: [:, 0:2] and [:, 1:5] have 2 elements in common"));
  EXPECT_THAT(refusal_of_chunks({range(0, 0, 10), columns(0, 2)}), HasSubstr("chunks overlap"));
  json half = columns(0, 2);
  half["range"] = {1, 4};
  EXPECT_THAT(refusal_of_chunks({half, columns(2, 5)}),
              HasSubstr("no chunk has elements 0 to 1 of 4 of [:, 0:2]"));
}

TEST(Manifest, RefusesWhatIsNoRegion) {
  EXPECT_THAT(refusal_of_chunks({range(0, 0, 11)}), HasSubstr("\"w\": region: a slice must lie"));
  EXPECT_THAT(refusal_of_chunks({range(0, 0, INT64_MAX)}),
              HasSubstr("got [0, 9223372036854775807"));
  EXPECT_THAT(refusal_of_chunks({range(0, INT64_MIN, INT64_MAX)}), HasSubstr("a slice must lie"));
  EXPECT_THAT(refusal_of_chunks({range(0, 4, 4)}), HasSubstr("a chunk is empty"));
  EXPECT_THAT(refusal_of_chunks({range(0, 0, 1.5)}), HasSubstr("must be an integer of 64 bits"));
  EXPECT_THAT(refusal_of_chunks({range(0, 0, UINT64_MAX)}), HasSubstr("must be an integer of 64"));
  EXPECT_THAT(refusal_of_chunks({range(2, 0, 10)}), HasSubstr("file must be one of 2, got 2"));
  EXPECT_THAT(refusal_of_chunks({range(-1, 0, 10)}), HasSubstr("must not be negative, got -1"));
  EXPECT_THAT(refusal_of_chunks({columns(0, 6)}), HasSubstr("within [0, 5); got [0, 6)"));
  EXPECT_THAT(refusal_of_chunks({columns(3, 2)}), HasSubstr("got [3, 2)"));
  EXPECT_THAT(refusal_of_chunks({columns(0, 2, 2)}), HasSubstr("must be one of 2, got 2"));
  EXPECT_THAT(refusal_of_chunks({columns(0, 2, std::int64_t{1} << 32)}),
              HasSubstr("must be one of 2, got 4294967296"));
}

TEST(Manifest, RefusesSlicesOfFormat1ThatDoNotCoverTheirTensor) {
  const auto slices = [](const std::vector<json>& value) {
    return refusal([&](json& m) {
      m["version"] = 1;
      m.erase("sections");
      m["tensors"]["w"].erase("chunks");
      m["tensors"]["w"]["slices"] = value;
    });
  };
  const auto slice = [](std::int64_t file, std::int64_t offset, std::int64_t count) {
    return json{{"file", file}, {"offset", offset}, {"count", count}};
  };
  EXPECT_THAT(slices({slice(0, 0, 6)}), HasSubstr("no chunk has elements 6 to 10"));
  EXPECT_THAT(slices({slice(0, 0, 11)}), HasSubstr("count 11"));
  EXPECT_THAT(slices({slice(0, 0, 6), slice(1, 5, 5)}), HasSubstr("elements 5 to 6 lie in two"));
  EXPECT_THAT(slices({slice(0, 0, INT64_MAX)}), HasSubstr("count 9223372036854775807"));
  EXPECT_THAT(slices({slice(0, -4, 14)}), HasSubstr("offset -4"));
  EXPECT_THAT(slices({slice(2, 0, 10)}), HasSubstr("file must be one of 2"));
}

// Time and memory must not grow with what a manifest claims.
TEST(Manifest, OfAHugeTensorIsCheckedWithoutVisitingIt) {
  Manifest manifest = small();
  const std::int64_t rows = std::int64_t{1} << 50;
  manifest.tensors["w"] = {DType::kF32, {rows, 1024}, {}};
  for (std::int64_t i = 0; i < 512; ++i) {
    manifest.tensors["w"].chunks.push_back(
        {0, Region({rows, 1024}, {{1, {{2 * i, 2 * i + 2}}}}).slice({0, 2 * rows})});
  }
  EXPECT_EQ(parse_manifest(to_file(manifest), "m").tensors.at("w").chunks.size(), 512u);
}

// Replaces one value of a manifest with one that does not belong there.
RC_GTEST_PROP(Manifest, IsReadOrRefused, ()) {
  Manifest manifest = small();
  manifest.tensors["cut"] = {
      DType::kI64,
      {4, 3},
      {{0, Region({4, 3}, {{0, {{0, 1}, {2, 3}}}})}, {1, Region({4, 3}, {{0, {{1, 2}, {3, 4}}}})}}};
  manifest.state.sections["s"] = {{"k", 1.5}};
  json flat = json::parse(to_json(manifest)).flatten();
  auto leaf = flat.begin();
  std::advance(leaf, *rc::gen::inRange<std::size_t>(0, flat.size()));
  const std::vector<json> strange = {nullptr,        -1,         0,   1,  2,   5,    INT64_MAX,
                                     INT64_MIN,      UINT64_MAX, 0.5, "", "x", true, json::array(),
                                     json::object(), {{"a", 1}}};
  *leaf = strange[*rc::gen::inRange<std::size_t>(0, strange.size())];
  try {
    // flatten() drops empty arrays, so some changes produce no JSON.
    parse_manifest(file_of(flat.unflatten()), "m");
  } catch (const DataError&) {
  } catch (const json::exception&) {
  }
}

TEST(Manifest, RefusesWhatIsNestedWithoutEnd) {
  const std::string deep(1'000'000, '[');
  EXPECT_THAT(error_of<DataError>([&] { parse_manifest("{\"manifest\":" + deep, "m"); }),
              HasSubstr("nested more deeply"));
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
  EXPECT_THAT(refusal([](json& m) { m["version"] = 3; }),
              HasSubstr("version 1 or 2; got \"trireme-checkpoint\", version 3"));
  EXPECT_THAT(refusal([](json& m) { m.erase("files"); }), HasSubstr("not the manifest"));
}

TEST(Manifest, IsRefusedInWordsOfItsOwn) {
  const std::string whole = to_file(small());
  const std::string torn = whole.substr(0, whole.size() / 2);
  const std::pair<std::string, std::string> bad[] = {
      {"", "it is empty or not JSON at all"},
      {"\x01\x02", "it is empty or not JSON at all"},
      {torn, fmt::format("it is not JSON from byte {} on", torn.size() + 1)},
      {"{}", "key 'manifest' not found"},
      {"[1]", "cannot use at() with array"},
      {"7", "cannot use at() with number"},
  };
  for (const auto& [text, reason] : bad) {
    const std::string error = error_of<DataError>([&] { parse_manifest(text, "manifest.json"); });
    EXPECT_THAT(error, HasSubstr("manifest.json: not the manifest of a checkpoint: "));
    EXPECT_THAT(error, HasSubstr(reason)) << text;
    EXPECT_THAT(error, testing::Not(HasSubstr("json.exception"))) << text;
  }
  const std::string more = whole + std::string("\0 and more", 10);
  EXPECT_THAT(error_of<DataError>([&] { parse_manifest(more, "manifest.json"); }),
              HasSubstr("it has a byte of zero, byte "));
}

TEST(Manifest, MergesPartsAndNamesTheLowestOfReplicas) {
  Manifest first, second;
  first.files = {{"rank-0.safetensors", 1, ""}};
  second.files = {{"rank-1.safetensors", 1, ""}};
  const Region left({5, 2}, {{1, {{0, 1}}}}), right({5, 2}, {{1, {{1, 2}}}});
  first.tensors["w"] = {DType::kF32, {5, 2}, {{0, right}}};
  second.tensors["w"] = {DType::kF32, {5, 2}, {{0, left}}};
  first.tensors["both"] = second.tensors["both"] = {DType::kI64, {}, {{0, Region()}}};
  const Manifest whole = merge(std::vector{first, Manifest{}, second});
  const auto& chunks = whole.tensors.at("w").chunks;
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].file, 1u);
  EXPECT_EQ(chunks[0].region, left);
  EXPECT_EQ(chunks[1].file, 0u);
  ASSERT_EQ(whole.tensors.at("both").chunks.size(), 1u);
  EXPECT_EQ(whole.tensors.at("both").chunks[0].file, 0u);
}

TEST(Manifest, JoinsTheSectionsOfAllRanks) {
  Manifest first, second;
  first.state.sections[sections::kStages] = {{"a", 0}, {"b", 1}};
  second.state.sections[sections::kStages] = {{"b", 1}, {"c", 2}};
  const Manifest whole = merge(std::vector{first, second});
  EXPECT_EQ(whole.state.sections.at(sections::kStages),
            (RunState::Section{{"a", 0}, {"b", 1}, {"c", 2}}));
  second.state.sections[sections::kStages]["b"] = 2;
  EXPECT_THAT(error_of<UsageError>([&] {
                merge(std::vector{first, second});
              }),
              HasSubstr("ranks must agree about \"b\" of section \"stages\""));
}

}  // namespace
}  // namespace trireme
