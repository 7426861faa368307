#include "examples/matrix_factorization/r_data.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/base/files.h"

namespace trireme::examples {

namespace {

// DEFLATE's best ratio, which limits the length that a file can claim before memory is allocated.
constexpr std::size_t kBestRatio = 1032;
constexpr int kDeepest = 32;

enum Type : std::uint32_t {
  kSymbol = 0x01,
  kPairList = 0x02,
  kChars = 0x09,
  kLogical = 0x0a,
  kIntegers = 0x0d,
  kReals = 0x0e,
  kStrings = 0x10,
  kList = 0x13,
  kNil = 0xfe,
  kReference = 0xff,
};
constexpr std::uint32_t kHasAttributes = 0x200;
constexpr std::uint32_t kHasTag = 0x400;

struct Item {
  std::uint32_t type = kNil;
  std::string text;  // of a symbol or of characters
  std::vector<std::int32_t> integers;
  std::vector<Item> items;         // of a list, of strings
  std::vector<std::string> names;  // of the attributes
  std::vector<Item> attributes;

  const Item* attribute(std::string_view name) const {
    const auto found = std::ranges::find(names, name);
    return found == names.end() ? nullptr
                                : &attributes[static_cast<std::size_t>(found - names.begin())];
  }
};

class Unserializer {
 public:
  Unserializer(std::string_view bytes, std::string where)
      : bytes_(bytes), where_(std::move(where)) {}

  Item read() {
    if (take(2) != "X\n") fail("an XDR serialization of R, which begins with \"X\\n\"");
    const std::uint32_t version = word();
    if (version != 2 && version != 3) {
      fail("version 2 or 3 of the serialization, got " + std::to_string(version));
    }
    word();  // the R that wrote it, and the oldest that can read it
    word();
    if (version == 3) take(word());  // the name of the encoding
    return item(0);
  }

 private:
  [[noreturn]] void fail(const std::string& wanted) const {
    throw DataError(where_ + ", byte " + std::to_string(at_) + ": wanted " + wanted);
  }

  std::string_view take(std::size_t count) {
    if (count > bytes_.size() - at_) {
      fail(std::to_string(count) + " more bytes, got " + std::to_string(bytes_.size() - at_));
    }
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }

  std::uint32_t word() {
    std::uint32_t value = 0;
    for (const char byte : take(4)) value = value << 8 | static_cast<unsigned char>(byte);
    return value;
  }

  // Reads a number of elements of at least `bytes` each, which must fit into the rest of the
  // stream.
  std::size_t count(std::size_t bytes) {
    const std::uint32_t claimed = word();
    if (claimed > (bytes_.size() - at_) / bytes) {
      fail("as many elements as there is room for, got " + std::to_string(claimed));
    }
    return claimed;
  }

  Item item(int depth) {
    if (depth > kDeepest) fail("lists in lists no deeper than " + std::to_string(kDeepest));
    const std::uint32_t flags = word();
    Item read{.type = flags & 0xff};
    switch (read.type) {
      case kNil:
        return read;
      case kReference:
        return symbol(flags >> 8);
      case kSymbol:
        read.text = item(depth + 1).text;
        symbols_.push_back(read.text);
        return read;
      case kChars:
        if (const std::uint32_t length = word(); length != 0xffffffff) read.text = take(length);
        return read;
      case kPairList:
        fail("a pair list as attributes only");
      case kLogical:
      case kIntegers:
        read.integers.resize(count(4));
        for (std::int32_t& value : read.integers) value = static_cast<std::int32_t>(word());
        break;
      case kReals:
        take(8 * count(8));
        break;
      case kStrings:
      case kList:
        // Not reserved: an item in memory is larger than the bytes that a file needs to claim it.
        for (std::size_t left = count(4); left > 0; --left) read.items.push_back(item(depth + 1));
        break;
      default:
        fail("a vector, a list or a symbol, got type " + std::to_string(read.type));
    }
    if ((flags & kHasAttributes) != 0) read_attributes(read, depth);
    return read;
  }

  Item symbol(std::uint32_t number) {
    if (number == 0) number = word();
    if (number == 0 || number > symbols_.size()) {
      fail("a reference to one of " + std::to_string(symbols_.size()) + " symbols, got " +
           std::to_string(number));
    }
    return {.type = kSymbol, .text = symbols_[number - 1]};
  }

  void read_attributes(Item& of, int depth) {
    for (;;) {
      const std::uint32_t flags = word();
      if ((flags & 0xff) == kNil) return;
      if ((flags & 0xff) != kPairList || (flags & kHasTag) == 0 || (flags & kHasAttributes) != 0) {
        fail("a list of named attributes");
      }
      of.names.push_back(item(depth + 1).text);
      of.attributes.push_back(item(depth + 1));
    }
  }

  std::string_view bytes_;
  std::string where_;
  std::size_t at_ = 0;
  std::vector<std::string> symbols_;
};

// Returns the columns if this is a data frame that has them all.
std::optional<DataFrame> columns_of(const Item& frame, std::span<const std::string> names) {
  const Item* const all = frame.attribute("names");
  if (frame.type != kList || all == nullptr) return {};
  DataFrame found;
  for (const std::string& name : names) {
    const auto place = std::ranges::find(all->items, name, &Item::text);
    const auto index = static_cast<std::size_t>(place - all->items.begin());
    if (index >= frame.items.size() || frame.items[index].type != kIntegers) return {};
    found.names.push_back(name);
    found.columns.push_back(frame.items[index].integers);
  }
  return found;
}

// Decompresses the stream at the front of `bytes`, and removes it from them.
std::string inflate(std::string_view& bytes, std::size_t length, const std::string& where) {
  if (length / kBestRatio > bytes.size()) {
    throw DataError(where + ": wanted a stream that can hold " + std::to_string(length) +
                    " bytes, got one of " + std::to_string(bytes.size()));
  }
  std::string out(length, '\0');
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) throw DataError(where + ": zlib does not start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int ended = ::inflate(&stream, Z_FINISH);
  bytes.remove_prefix(bytes.size() - stream.avail_in);
  const bool is_whole = ended == Z_STREAM_END && stream.avail_out == 0;
  inflateEnd(&stream);
  if (!is_whole) {
    throw DataError(where + ": wanted a zlib stream of " + std::to_string(length) +
                    " bytes; the file is torn or something else");
  }
  return out;
}

}  // namespace

DataFrame parse_data_frame(std::string_view bytes, const std::string& source,
                           std::span<const std::string> names) {
  for (int entry = 1; !bytes.empty(); ++entry) {
    const std::string where = source + ", entry " + std::to_string(entry);
    if (bytes.size() < 4 || bytes.size() > 0xffffffff) {
      throw DataError(where + ": wanted a length of 4 bytes and up to 4 GiB of data, got " +
                      std::to_string(bytes.size()) + " bytes");
    }
    std::size_t length = 0;
    for (const char byte : bytes.substr(0, 4)) {
      length = length << 8 | static_cast<unsigned char>(byte);
    }
    bytes.remove_prefix(4);
    const std::string raw = inflate(bytes, length, where);
    std::optional<DataFrame> found = columns_of(Unserializer(raw, where).read(), names);
    if (!found) continue;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (found->columns[i].size() != found->columns[0].size()) {
        throw DataError(where + ": wanted columns of one length, got " +
                        std::to_string(found->columns[i].size()) + " values of " + names[i] +
                        " and " + std::to_string(found->columns[0].size()) + " of " + names[0]);
      }
    }
    return *found;
  }
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  throw DataError(source + ": wanted a data frame with the integer columns " + all +
                  ", got none; it is usr/lib/R/site-library/PACKAGE/data/Rdata.rdb that is read");
}

DataFrame read_data_frame(const std::filesystem::path& path, std::span<const std::string> names) {
  return parse_data_frame(read_file(path), path.string(), names);
}

}  // namespace trireme::examples
