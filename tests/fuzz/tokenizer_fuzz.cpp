// A tokenizer's JSON, a zero byte and a text: tokens of the vocabulary, which the same tokenizer
// made again gives too, or a DataError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t end = bytes.find('\0');
  const std::string_view text = end == bytes.npos ? "" : bytes.substr(end + 1);
  try {
    const auto tokenizer = trireme::tokenizer_from_json(bytes.substr(0, end), "fuzz.json");
    const auto again = trireme::tokenizer_from_json(tokenizer->to_json());
    if (again->to_json() != tokenizer->to_json()) std::abort();
    for (const auto special :
         {trireme::SpecialTokens::kRecognized, trireme::SpecialTokens::kAsText}) {
      std::vector<std::int32_t> ids;
      tokenizer->append(text, special, ids);
      for (const std::int32_t id : ids) {
        if (id < 0 || id >= tokenizer->vocabulary()) std::abort();
      }
      static_cast<void>(tokenizer->decode(ids));
      // From memory.
      std::vector<std::int32_t> ids_again;
      tokenizer->append(text, special, ids_again);
      if (ids_again != ids) std::abort();
    }
  } catch (const trireme::DataError&) {
  }
  return 0;
}
