// CSV of any bytes: rows or a DataError. The first byte chooses header and delimiter.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/formats/csv.h"

namespace {

trireme::CsvOptions options_of(std::uint8_t choice) {
  constexpr char kDelimiters[] = {0, ',', ';', '\t'};
  return {.delimiter = kDelimiters[choice % 4], .header = (choice & 4) != 0};
}

void read_all(trireme::CsvReader& csv) {
  while (csv.next()) {
    for (std::size_t i = 0; i < csv.columns().size(); ++i) {
      if (!csv.missing(i)) static_cast<void>(csv.field(i).size());
      try {
        csv.number(i);
      } catch (const trireme::DataError&) {
        // A word is an error of this field alone: the reader goes on.
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto read = [&](std::int64_t skipped) {
    try {
      trireme::CsvReader csv(trireme::bytes_of(bytes), "fuzz.csv", options_of(data[0]));
      csv.skip(skipped);
      read_all(csv);
    } catch (const trireme::DataError&) {
    }
  };
  read(0);
  read(2);
  return 0;
}
