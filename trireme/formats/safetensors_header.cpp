#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/safetensors.h"
#include "trireme/formats/safetensors_dtype.h"

namespace trireme {

namespace {

// What the header says of one tensor, before it is checked.
struct Claim {
  std::string name;
  std::optional<DType> dtype;
  std::optional<std::vector<std::int64_t>> shape;
  std::optional<std::vector<std::int64_t>> offsets;
};

// Takes the JSON event by event, so that nothing is stored that a header has no place for: memory
// stays in proportion to the text, and depth is bounded, whatever the file holds.
class HeaderEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderEvents(std::string_view file) : file_(file) {}

  std::vector<Claim> claims;
  SafetensorsMetadata metadata;

  [[noreturn]] void end_before(std::size_t position) const {
    fail(fmt::format(
        "must end with its JSON object, which blanks alone may follow, has more at byte "
        "{}",
        position));
  }

  bool null() override { return misplaced("null"); }
  bool boolean(bool) override { return misplaced("a boolean"); }
  bool number_integer(number_integer_t) override { return misplaced("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return misplaced("a fraction"); }
  bool binary(binary_t&) override { return misplaced("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kNumbers) return misplaced("a number");
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      fail(fmt::format("{} must stay below 2^63, got {}", where(), value));
    }
    numbers_->push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      metadata[key_] = text;
    } else if (place_ == Place::kTensor && key_ == "dtype") {
      claims.back().dtype = dtype_of_safetensors(text);
      if (!claims.back().dtype) {
        fail(fmt::format("{} must be one of {}, got {}", where(), safetensors_dtypes(),
                         printable(text)));
      }
    } else {
      return misplaced("a string");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kOutside) {
      place_ = Place::kFile;
    } else if (place_ == Place::kFile && key_ == "__metadata__") {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kFile) {
      claims.push_back({.name = key_});
      place_ = Place::kTensor;
    } else {
      return misplaced("an object");
    }
    return true;
  }

  bool key(string_t& text) override {
    const bool first = place_ == Place::kFile     ? names_.insert(text).second
                       : place_ == Place::kTensor ? !given(text)
                                                  : !metadata.contains(text);
    if (!first) {
      fail(fmt::format("{} must come once, comes twice",
                       place_ == Place::kFile ? printable(text) : where() + " " + printable(text)));
    }
    key_ = std::move(text);
    return true;
  }

  bool end_object() override {
    place_ = place_ == Place::kFile ? Place::kEnd : Place::kFile;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || (key_ != "shape" && key_ != "data_offsets")) {
      return misplaced("an array");
    }
    auto& numbers = key_ == "shape" ? claims.back().shape : claims.back().offsets;
    numbers_ = &numbers.emplace();
    place_ = Place::kNumbers;
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception&) override {
    if (place_ == Place::kEnd) end_before(position);
    fail(fmt::format("must be JSON, is not at byte {}, near {}", position, printable(token)));
  }

 private:
  enum class Place { kOutside, kEnd, kFile, kMetadata, kTensor, kNumbers };

  bool given(std::string_view field) const {
    const Claim& claim = claims.back();
    return (field == "dtype" && claim.dtype) || (field == "shape" && claim.shape) ||
           (field == "data_offsets" && claim.offsets);
  }

  std::string where() const {
    switch (place_) {
      case Place::kOutside:
      case Place::kEnd:
        return "the whole";
      case Place::kFile:
        return printable(key_);
      case Place::kMetadata:
        return "__metadata__";
      case Place::kTensor:
      case Place::kNumbers:
        return fmt::format("{} of tensor {}", printable(key_), printable(claims.back().name));
    }
    return {};
  }

  bool misplaced(std::string_view got) {
    std::string_view wanted = "be an object";
    if (place_ == Place::kMetadata) wanted = "hold strings only";
    if (place_ == Place::kNumbers) wanted = "hold whole numbers only";
    if (place_ == Place::kTensor) {
      wanted = key_ == "dtype" ? "be a string"
               : key_ == "shape" || key_ == "data_offsets"
                   ? "be an array of whole numbers"
                   : "not be there: a tensor has dtype, shape and data_offsets";
    }
    fail(fmt::format("{} must {}, got {}", where(), wanted, got));
  }

  [[noreturn]] void fail(const std::string& message) const {
    throw DataError(fmt::format("{}: header: {}", file_, message));
  }

  std::string_view file_;
  Place place_ = Place::kOutside;
  std::string key_;
  std::set<std::string> names_;
  std::vector<std::int64_t>* numbers_ = nullptr;
};

std::optional<std::int64_t> product(std::span<const std::int64_t> shape) {
  if (std::ranges::count(shape, 0) > 0) return 0;
  // An eighth: the bytes of the widest type are then a number too.
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max() / 8;
  std::int64_t count = 1;
  for (const std::int64_t d : shape) {
    if (count > kLargest / d) return std::nullopt;
    count *= d;
  }
  return count;
}

TensorInfo checked(Claim claim, std::int64_t data_bytes, std::string_view file) {
  const auto fail = [&](const std::string& message) {
    throw DataError(fmt::format("{}: header: tensor {}: {}", file, printable(claim.name), message));
  };
  if (!claim.dtype || !claim.shape || !claim.offsets) {
    fail("must have dtype, shape and data_offsets, lacks one of them");
  }
  if (claim.offsets->size() != 2) {
    fail(fmt::format("data_offsets must be two numbers, got {}", claim.offsets->size()));
  }
  const std::int64_t begin = claim.offsets->front(), end = claim.offsets->back();
  if (begin > end || end > data_bytes) {
    fail(
        fmt::format("data_offsets must lie in order within the {} bytes behind the header, got "
                    "[{}, {}]",
                    data_bytes, begin, end));
  }
  const std::optional<std::int64_t> count = product(*claim.shape);
  if (!count) fail(fmt::format("shape [{}] is too large", fmt::join(*claim.shape, ", ")));
  const std::int64_t wanted = *count * static_cast<std::int64_t>(size_of(*claim.dtype));
  if (end - begin != wanted) {
    fail(fmt::format("data_offsets must span {} bytes for {} in shape [{}], got {}", wanted,
                     name_of(*claim.dtype), fmt::join(*claim.shape, ", "), end - begin));
  }
  return {std::move(claim.name), *claim.dtype, std::move(*claim.shape), *count, begin};
}

std::int64_t end_of(const TensorInfo& tensor) {
  return tensor.offset + tensor.count * static_cast<std::int64_t>(size_of(tensor.dtype));
}

// In the order of `tensors` each must begin where the one before ended, the last at the end.
void check_cover(std::span<const TensorInfo> tensors, std::int64_t data_bytes,
                 std::string_view file) {
  std::int64_t end = 0;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset != end) {
      throw DataError(fmt::format(
          "{}: header: tensor {} must begin at byte {}, where the one before it ends, got {}", file,
          printable(tensor.name), end, tensor.offset));
    }
    end = end_of(tensor);
  }
  if (end != data_bytes) {
    throw DataError(
        fmt::format("{}: must end with its last tensor, {} bytes behind the header, "
                    "has {} bytes there",
                    file, end, data_bytes));
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, std::int64_t data_bytes,
                                           std::string_view file) {
  HeaderEvents events(file);
  nlohmann::json::sax_parse(json, &events);
  // The parser takes a byte of zero for the end of the text.
  if (const std::size_t zero = json.find('\0'); zero != json.npos) events.end_before(zero + 1);
  SafetensorsHeader header{.metadata = std::move(events.metadata)};
  header.tensors.reserve(events.claims.size());
  for (Claim& claim : events.claims) {
    header.tensors.push_back(checked(std::move(claim), data_bytes, file));
  }
  std::ranges::sort(header.tensors, {}, [](const TensorInfo& t) {
    return std::tuple(t.offset, end_of(t), std::string_view(t.name));
  });
  check_cover(header.tensors, data_bytes, file);
  return header;
}

}  // namespace trireme
