#include "trireme/formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <numeric>

#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/atomic_file.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A file made of its parts by the specification of the format alone.
std::string file_of(std::string_view json, std::string_view data) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(json.size() >> (8 * i));
  return bytes.append(json).append(data);
}

std::string error_in(std::string_view json, std::int64_t data_bytes) {
  return error_of<DataError>([&] { parse_safetensors_header(json, data_bytes, "m"); });
}

std::string tensor(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return "{\"t\":{\"dtype\":\"" + std::string(dtype) + "\",\"shape\":" + std::string(shape) +
         ",\"data_offsets\":" + std::string(offsets) + "}}";
}

// The worked example of docs/format/safetensors.md.
TEST(Safetensors, WritesTheBytesOfTheWorkedExample) {
  std::array<float, 2> bias = {1.0f, -2.0f};
  std::array<std::uint8_t, 3> visible = {1, 0, 7};
  const std::vector<NamedBuffer> tensors = {{"visible", {3}, buffer_of<std::uint8_t>(visible)},
                                            {"bias", {2}, buffer_of<float>(bias)}};
  const std::string wanted =
      std::string("\x98\0\0\0\0\0\0\0", 8) +
      "{\"__metadata__\":{\"format\":\"pt\"},"
      "\"bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
      "\"visible\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}     " +
      std::string("\0\0\x80\x3f\0\0\0\xc0\x01\0\x07", 11);
  const std::string bytes = safetensors_bytes(tensors, {{"format", "pt"}});
  EXPECT_EQ(bytes, wanted);

  const TemporaryFolder folder;
  write_safetensors(folder.path() / "m", tensors, {{"format", "pt"}});
  EXPECT_EQ(read_file(folder.path() / "m"), wanted);
}

TEST(Safetensors, ReadsTheBytesOfTheWorkedExample) {
  const TemporaryFolder folder;
  const SafetensorsFile file(folder.write(
      "m", file_of("{\"b\" : {\"shape\":[1,2],\"data_offsets\":[3,11],\"dtype\":\"F32\"},\n "
                   "\"__metadata__\":{\"k\":\"v\"},"
                   "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,5],\"data_offsets\":[3,3]},"
                   "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}  ",
                   std::string_view("\x01\x00\x07\x00\x00\x80\x3f\x00\x00\x00\xc0", 11))));
  EXPECT_THAT(file.names(), ElementsAre("a", "empty", "b"));
  EXPECT_EQ(file.metadata().at("k"), "v");
  EXPECT_THAT(file.info("b").shape, ElementsAre(1, 2));
  EXPECT_EQ(file.info("b").dtype, DType::kF32);
  EXPECT_EQ(file.info("empty").count, 0);
  std::array<float, 2> b = {};
  file.read("b", buffer_of<float>(b));
  EXPECT_THAT(b, ElementsAre(1.0f, -2.0f));
  EXPECT_EQ(file.bytes("a"), std::string("\x01\x00\x07", 3));
  std::array<std::uint8_t, 2> tail = {};
  file.read("a", 1, buffer_of<std::uint8_t>(tail));
  EXPECT_THAT(tail, ElementsAre(0, 7));
}

TEST(Safetensors, AlignsEveryTypeAndGivesItBack) {
  std::array<std::int64_t, 4> storage = {1, -2, 3, -4};
  std::vector<NamedBuffer> tensors;
  for (const DType dtype : {DType::kU8, DType::kF16, DType::kF64, DType::kBF16, DType::kI32,
                            DType::kI64, DType::kF32}) {
    tensors.push_back({"t." + std::string(name_of(dtype)), {3}, {storage.data(), 3, dtype}});
  }
  const TemporaryFolder folder;
  write_safetensors(folder.path() / "m", tensors);
  const SafetensorsFile file(folder.path() / "m");
  EXPECT_THAT(file.names(),
              ElementsAre("t.i64", "t.f64", "t.f32", "t.i32", "t.bf16", "t.f16", "t.u8"));
  for (const NamedBuffer& t : tensors) {
    EXPECT_EQ(file.info(t.name).dtype, t.values.dtype);
    EXPECT_EQ(file.info(t.name).offset % static_cast<std::int64_t>(size_of(t.values.dtype)), 0);
    EXPECT_EQ(file.bytes(t.name),
              std::string(static_cast<const char*>(t.values.data), t.values.bytes()));
  }
}

TEST(Safetensors, EscapesNamesAsJson) {
  const std::vector<NamedBuffer> tensors = {{"a\"b\\c\n\xc3\xa9", {0}, {nullptr, 0}}};
  const TemporaryFolder folder;
  const SafetensorsFile file(folder.write("m", safetensors_bytes(tensors)));
  EXPECT_THAT(file.names(), ElementsAre("a\"b\\c\n\xc3\xa9"));
}

TEST(Safetensors, HoldsNoTensorAtAll) {
  const TemporaryFolder folder;
  EXPECT_TRUE(SafetensorsFile(folder.write("m", safetensors_bytes({}))).names().empty());
}

TEST(Safetensors, RefusesToWriteWhatCannotBeRead) {
  std::array<float, 2> x = {};
  const auto writing = [&](std::vector<NamedBuffer> tensors) {
    return error_of<UsageError>([&] { safetensors_bytes(tensors); });
  };
  const Buffer two = buffer_of<float>(x);
  EXPECT_THAT(writing({{"a", {2}, two}, {"a", {2}, two}}), HasSubstr("\"a\" comes twice"));
  EXPECT_THAT(writing({{"a", {3}, two}}), HasSubstr("shape [3] must have 3 values, got 2"));
  EXPECT_THAT(writing({{"__metadata__", {2}, two}}), HasSubstr("cannot be a tensor's name"));
  EXPECT_THAT(writing({{"\xff", {2}, two}}), HasSubstr("must be UTF-8"));
}

// In pieces of any size, the file is the one of the values in memory.
TEST(Safetensors, OfStreamedTensorsHasTheSameBytes) {
  const TemporaryFolder folder;
  std::vector<float> values(5);
  std::iota(values.begin(), values.end(), 1.0f);
  std::vector<std::int64_t> wide = {7};
  const std::vector<NamedBuffer> tensors = {{"a", {5}, buffer_of(std::span(values))},
                                            {"w", {}, buffer_of(std::span(wide))}};
  for (const std::size_t piece : {1, 3, 20, 100}) {
    std::vector<StreamedTensor> in_pieces = streamed(tensors);
    for (StreamedTensor& tensor : in_pieces) {
      tensor.values = [whole = tensor.values, piece](const ByteSink& write) {
        whole([&](std::string_view bytes) {
          for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size()))) {
            write(bytes.substr(0, piece));
          }
        });
      };
    }
    write_safetensors(folder.path() / "m", in_pieces, {{"format", "pt"}});
    EXPECT_EQ(read_file(folder.path() / "m"), safetensors_bytes(tensors, {{"format", "pt"}}));
  }
}

TEST(Safetensors, RefusesStreamedTensorsWithMoreOrFewerBytesThanTheirShape) {
  const TemporaryFolder folder;
  for (const std::string given : {"1234567", "123456789"}) {
    const StreamedTensor tensor{
        "t", DType::kF32, {2}, [&](const ByteSink& write) { write(given); }};
    EXPECT_THAT(
        error_of<UsageError>(
            [&] { write_safetensors(folder.path() / "m", std::span(&tensor, 1)); }),
        HasSubstr("\"t\" must give its 8 bytes, has given " + std::to_string(given.size())));
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  }
}

TEST(SafetensorsHeader, RefusesOffsetsThatDoNotCoverTheData) {
  EXPECT_THAT(error_in(tensor("F32", "[2]", "[0,8]"), 9), HasSubstr("must end with its last"));
  EXPECT_THAT(error_in(tensor("F32", "[2]", "[0,8]"), 7), HasSubstr("within the 7 bytes"));
  EXPECT_THAT(error_in(tensor("F32", "[2]", "[1,9]"), 9), HasSubstr("must begin at byte 0"));
  EXPECT_THAT(error_in(tensor("F32", "[2]", "[8,0]"), 8), HasSubstr("in order"));
  EXPECT_THAT(error_in("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                       "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
                       3),
              HasSubstr("tensor \"b\" must begin at byte 2"));
  EXPECT_THAT(error_in("{}", 1), HasSubstr("has 1 bytes there"));
}

TEST(SafetensorsHeader, RefusesShapesThatDoNotFitTheBytes) {
  EXPECT_THAT(error_in(tensor("F32", "[3]", "[0,8]"), 8), HasSubstr("must span 12 bytes"));
  EXPECT_THAT(error_in(tensor("F64", "[2]", "[0,8]"), 8), HasSubstr("must span 16 bytes"));
  EXPECT_THAT(error_in(tensor("F32", "[4294967296,4294967296]", "[0,0]"), 0),
              HasSubstr("too large"));
  EXPECT_THAT(error_in(tensor("F64", "[2305843009213693952]", "[0,0]"), 0), HasSubstr("too large"));
  EXPECT_THAT(error_in(tensor("F64", "[18446744073709551615]", "[0,0]"), 0),
              HasSubstr("below 2^63"));
}

TEST(SafetensorsHeader, RefusesWhatHasNoPlaceInIt) {
  EXPECT_THAT(error_in(tensor("BOOL", "[2]", "[0,2]"), 2), HasSubstr("got \"BOOL\""));
  EXPECT_THAT(error_in(tensor("F32", "[-1]", "[0,8]"), 8), HasSubstr("a negative number"));
  EXPECT_THAT(error_in(tensor("F32", "[1.5]", "[0,8]"), 8), HasSubstr("a fraction"));
  EXPECT_THAT(error_in(tensor("F32", "[[2]]", "[0,8]"), 8), HasSubstr("an array"));
  EXPECT_THAT(error_in(tensor("F32", "[2]", "[0,4,8]"), 8), HasSubstr("two numbers, got 3"));
  EXPECT_THAT(error_in(tensor("F32", "2", "[0,8]"), 8), HasSubstr("must be an array"));
  EXPECT_THAT(error_in("{\"t\":{}}", 0), HasSubstr("lacks one of them"));
  EXPECT_THAT(error_in("{\"t\":7}", 0), HasSubstr("\"t\" must be an object, got a number"));
  EXPECT_THAT(error_in("{\"t\":{\"x\":\"y\"}}", 0), HasSubstr("must not be there"));
  EXPECT_THAT(error_in("{\"__metadata__\":{\"a\":1}}", 0), HasSubstr("strings only"));
  EXPECT_THAT(error_in("[]", 0), HasSubstr("the whole must be an object"));
}

TEST(SafetensorsHeader, RefusesWhatComesTwice) {
  const std::string one = "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
  EXPECT_THAT(error_in("{" + one + "," + one + "}", 0), HasSubstr("\"a\" must come once"));
  EXPECT_THAT(error_in("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0), HasSubstr("come once"));
  EXPECT_THAT(error_in("{\"a\":{\"shape\":[],\"shape\":[]}}", 0), HasSubstr("come once"));
}

TEST(SafetensorsHeader, RefusesBrokenJson) {
  for (const char* json : {"", "{", "{}}", "{\"a\"}", "{\"a\":{\"shape\":[1", "{}\xff", "\xff"}) {
    EXPECT_THAT(error_in(json, 0), HasSubstr("m: header: ")) << json;
  }
  EXPECT_THAT(error_in(std::string(100'000, '['), 0), HasSubstr("got an array"));
}

TEST(SafetensorsHeader, RefusesBytesAfterItsEnd) {
  const std::string one = "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}";
  for (const std::string& more : {std::string("}"), std::string("{}"), std::string("x"),
                                  std::string(1, '\0'), std::string("  ,"), std::string("\xff")}) {
    EXPECT_THAT(
        error_in(one + more, 0),
        HasSubstr("m: header: must end with its JSON object, which blanks alone may follow, "
                  "has more at byte "))
        << more;
  }
  EXPECT_EQ(parse_safetensors_header(one + "  \n ", 0, "m").tensors.size(), 1u);
}

TEST(SafetensorsFile, CallsEveryTruncationAnError) {
  std::array<float, 2> x = {};
  const std::vector<NamedBuffer> tensors = {{"x", {2}, buffer_of<float>(x)}};
  const std::string bytes = safetensors_bytes(tensors);
  const TemporaryFolder folder;
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const auto path = folder.write("m", bytes.substr(0, n));
    EXPECT_THAT(error_of<DataError>([&] { SafetensorsFile file(path); }), HasSubstr(path.string()));
  }
}

TEST(SafetensorsFile, RefusesAHeaderLongerThanTheFileBeforeItAllocates) {
  const TemporaryFolder folder;
  const auto path = folder.write("m", std::string(8, '\xff') + "{}");
  EXPECT_THAT(error_of<DataError>([&] { SafetensorsFile file(path); }),
              HasSubstr("at most 2 bytes, its first 8 bytes say 18446744073709551615"));
}

TEST(SafetensorsFile, ErrorsNameTheTypeAndShapeOfATensor) {
  std::array<float, 2> x = {};
  const std::vector<NamedBuffer> tensors = {{"x", {2}, buffer_of<float>(x)}};
  const TemporaryFolder folder;
  const SafetensorsFile file(folder.write("m", safetensors_bytes(tensors)));
  const auto reading = [&](const char* name, Buffer out) {
    return error_of<DataError>([&] { file.read(name, out); });
  };
  std::array<double, 2> doubles = {};
  EXPECT_THAT(reading("x", buffer_of<double>(doubles)), HasSubstr("must be f64, is f32"));
  EXPECT_THAT(reading("x", {x.data(), 1}), HasSubstr("must have 1 values, has 2 in shape [2]"));
  EXPECT_THAT(reading("y", {x.data(), 2}), HasSubstr("must have a tensor \"y\""));
  EXPECT_THAT(error_of<DataError>([&] {
                file.read("x", 1, {x.data(), 2});
              }),
              HasSubstr("must have values 1 to 3, has 2"));
}

TEST(AtomicFile, LeavesTheOldFileUntilItIsCommitted) {
  const TemporaryFolder folder;
  const auto path = folder.write("m", "old");
  {
    AtomicFile file(path);
    file.write("new");
    EXPECT_EQ(read_file(path), "old");
  }
  EXPECT_EQ(read_file(path), "old");
  AtomicFile file(path);
  file.write("new");
  file.commit();
  EXPECT_EQ(read_file(path), "new");
  const auto entries = std::filesystem::directory_iterator(folder.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST(AtomicFile, NamesAFolderThatIsNotThere) {
  EXPECT_THAT(error_of<DataError>([] { AtomicFile file("/nowhere/m"); }),
              HasSubstr("/nowhere/m: cannot create: No such file"));
}

}  // namespace
}  // namespace trireme
