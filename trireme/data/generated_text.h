#pragma once

#include <cstdint>
#include <string>

namespace trireme {

/// A text of made-up words, which a model can learn from where there is no other: about `bytes`
/// ASCII characters, a pure function of both arguments. Few words are frequent and many are rare
/// (Zipf 1949), and each word has some that often follow it.
std::string generated_text(std::uint64_t seed, std::int64_t bytes);

}  // namespace trireme
