#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::examples {

/// Integer columns of a data frame, all of one length. Of a factor: the numbers of its levels, from
/// 1.
struct DataFrame {
  std::vector<std::string> names;
  std::vector<std::vector<std::int32_t>> columns;
};

/// The first data frame with integer columns of these `names` in the data that an R package
/// carries (data/Rdata.rdb): those columns, in this order.
///
/// The file is a row of entries, each the length of what it holds (u32, big-endian) and a zlib
/// stream of that: R's own XDR serialization, versions 2 and 3 ("R Internals", 1.8). Only vectors,
/// lists and their attributes are read; nothing in a file is evaluated. Throws DataError with the
/// entry and the byte where a file is torn or is something else.
DataFrame read_data_frame(const std::filesystem::path& path, std::span<const std::string> names);

/// The same of the bytes of such a file, called `source` in errors.
DataFrame parse_data_frame(std::string_view bytes, const std::string& source,
                           std::span<const std::string> names);

}  // namespace trireme::examples
