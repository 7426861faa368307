#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::bench {

/// Returns the bytes of "4", "64Ki", "64K", "1MiB", "2G": as for nccl-tests, K, M and G are powers
/// of 1024 with or without an i or a B after them. Throws UsageError for text that is no positive
/// size.
std::int64_t parse_size(std::string_view text);

/// "4,1Ki,64Ki": sizes between commas.
std::vector<std::int64_t> parse_sizes(std::string_view text);

/// smallest, smallest * factor, ... up to `largest`. Throws UsageError unless smallest <= largest
/// and factor >= 2.
std::vector<std::int64_t> sizes_between(std::int64_t smallest, std::int64_t largest,
                                        std::int64_t factor);

/// "64 KiB", "3 MiB", "100 B": for people.
std::string short_size(std::int64_t bytes);

}  // namespace trireme::bench
