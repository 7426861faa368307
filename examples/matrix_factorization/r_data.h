#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::examples {

/// Integer columns of a data frame, all of one length. A factor has the numbers of its levels, from
/// 1.
struct DataFrame {
  std::vector<std::string> names;
  std::vector<std::vector<std::int32_t>> columns;
};

/// Returns columns of these `names`, in this order, from the first data frame in the data of an R
/// package (data/Rdata.rdb) that has them as integers.
///
/// The file is a sequence of entries. Each is the length of its uncompressed data (u32, big-endian)
/// and a zlib stream of R's XDR serialization, version 2 or 3 ("R Internals", 1.8). Only vectors,
/// lists and their attributes are read; nothing in a file is evaluated. Throws DataError with the
/// entry and the byte if a file is torn or something else.
DataFrame read_data_frame(const std::filesystem::path& path, std::span<const std::string> names);

/// The same for the bytes of such a file; errors call it `source`.
DataFrame parse_data_frame(std::string_view bytes, const std::string& source,
                           std::span<const std::string> names);

}  // namespace trireme::examples
