#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/formats/byte_source.h"
#include "trireme/formats/number_format.h"

namespace trireme {

struct CsvOptions {
  /// 0: whichever of , ; and tab the first line has most of and `numbers` does not use.
  char delimiter = 0;
  /// The first line names the columns; otherwise they are "1", "2", ...
  bool header = true;
  NumberFormat numbers;
  /// Fields that stand for a missing value; an empty field always does.
  std::vector<std::string> missing = {"NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"};
};

/// Reads a file of comma-separated values (RFC 4180) row by row: quoted fields with "" for a quote
/// and line breaks inside them, \r\n or \n, any size in a constant amount of memory, gzip or not.
/// Empty lines are no rows; a byte-order mark is skipped.
///
///     CsvReader csv("houses.csv");
///     const std::size_t price = csv.column("price");
///     csv.skip(1000);
///     while (csv.next()) sum += csv.number(price).value_or(0);
///
/// One thread at a time. Whatever is wrong is a DataError beginning with file:line:column, both
/// from 1 and in bytes: a row with more or fewer fields than the first, a quote out of place, a
/// word where a number must be, an empty file, a row of more than 16 MiB.
class CsvReader {
 public:
  explicit CsvReader(const std::filesystem::path& path, CsvOptions options = {});
  CsvReader(std::unique_ptr<ByteSource> source, std::string name, CsvOptions options = {});
  CsvReader(const CsvReader&) = delete;
  CsvReader& operator=(const CsvReader&) = delete;

  const std::vector<std::string>& columns() const { return columns_; }
  char delimiter() const { return delimiter_; }

  bool has_column(std::string_view name) const { return column_of_.contains(name); }
  /// The position of the column `name`. Throws DataError if there is none or more than one.
  std::size_t column(std::string_view name) const;

  /// Moves to the next row; false at the end.
  bool next();

  /// Moves over up to `rows` rows without looking into them, several times as fast as next();
  /// returns how many there were.
  std::int64_t skip(std::int64_t rows);

  /// Of the row that next() moved to; valid until it is called again.
  std::string_view field(std::size_t column) const { return fields_[column]; }
  /// Returns the field without the blanks around it.
  std::string_view trimmed_field(std::size_t column) const;
  /// Returns the field as a finite number, or nothing if it is missing. Blanks around it do not
  /// matter.
  std::optional<double> number(std::size_t column) const;
  bool is_number(std::size_t column) const;
  bool missing(std::size_t column) const;

  /// Where the row begins, from 1.
  std::int64_t line() const { return row_line_; }
  /// A DataError of "file:line:column: message" for a field of the row.
  DataError error(std::size_t column, std::string_view message) const;

 private:
  bool next_record();
  bool find_end(std::size_t& searched, bool& in_quotes);
  bool refill();
  void skip_byte_order_mark();
  void read_columns();
  void index_columns();
  bool is_missing(std::string_view text) const;
  void split();
  std::size_t take_plain(std::size_t begin);
  std::size_t take_quoted(std::size_t begin);
  DataError error_at(std::size_t offset, std::string_view message) const;

  std::unique_ptr<ByteSource> source_;
  std::string name_;
  CsvOptions options_;
  char delimiter_ = ',';
  std::vector<std::string> columns_;
  std::unordered_map<std::string_view, std::size_t> column_of_;

  // What was read is [0, filled_) of the buffer; the record, without its line break, is
  // [begin_, end_), and the next one begins at after_.
  std::string buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t after_ = 0;
  std::size_t filled_ = 0;
  std::int64_t row_line_ = 1;
  std::int64_t next_line_ = 1;

  std::vector<std::string_view> fields_;
  std::vector<std::size_t> offsets_;  // where the fields begin in the buffer
  std::string unescaped_;             // fields that held "", which cannot be looked at in place
  bool first_row_read_ = false;       // without a header the columns are counted in the first row
};

/// The rows of a file, in one cheap pass.
std::int64_t count_csv_rows(const std::filesystem::path& path, CsvOptions options = {});

}  // namespace trireme
