#include "trireme/formats/csv.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "trireme/formats/gzip.h"
#include "trireme/formats/printable.h"

namespace trireme {

namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 16;
constexpr std::size_t kMaxRowBytes = std::size_t{16} << 20;
constexpr std::size_t kSeveral = std::numeric_limits<std::size_t>::max();  // columns of one name

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// What numbers are written with is a delimiter only if nothing else is: numbers may be quoted.
char most_frequent_delimiter(std::string_view line, NumberFormat numbers) {
  constexpr std::array<char, 3> kDelimiters = {',', ';', '\t'};
  std::array<std::int64_t, 3> seen = {};
  bool in_quotes = false;
  for (const char c : line) {
    if (c == '"') in_quotes = !in_quotes;
    for (std::size_t i = 0; i < kDelimiters.size(); ++i)
      seen[i] += !in_quotes && c == kDelimiters[i];
  }
  std::array<std::int64_t, 3> apart = seen;
  for (std::size_t i = 0; i < kDelimiters.size(); ++i) {
    if (kDelimiters[i] == numbers.decimal || kDelimiters[i] == numbers.thousands) apart[i] = 0;
  }
  if (std::ranges::max(apart) > 0) seen = apart;
  return kDelimiters[std::ranges::max_element(seen) - seen.begin()];
}

}  // namespace

CsvReader::CsvReader(const std::filesystem::path& path, CsvOptions options)
    : CsvReader(open_file(path), path.string(), std::move(options)) {}

CsvReader::CsvReader(std::unique_ptr<ByteSource> source, std::string name, CsvOptions options)
    : source_(maybe_inflate(std::move(source), name)),
      name_(std::move(name)),
      options_(std::move(options)) {
  skip_byte_order_mark();
  read_columns();
  index_columns();
}

void CsvReader::skip_byte_order_mark() {
  refill();
  if (std::string_view(buffer_.data(), filled_).starts_with("\xEF\xBB\xBF")) after_ = 3;
}

void CsvReader::read_columns() {
  if (!next_record()) throw DataError(fmt::format("{}:1:1: must have rows, is empty", name_));
  delimiter_ =
      options_.delimiter != 0
          ? options_.delimiter
          : most_frequent_delimiter({buffer_.data() + begin_, end_ - begin_}, options_.numbers);
  split();
  if (options_.header) {
    columns_.assign(fields_.begin(), fields_.end());
    return;
  }
  for (std::size_t i = 1; i <= fields_.size(); ++i) columns_.push_back(std::to_string(i));
  first_row_read_ = true;
}

void CsvReader::index_columns() {
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    const auto [entry, is_first] = column_of_.try_emplace(columns_[i], i);
    if (!is_first) entry->second = kSeveral;
  }
}

std::size_t CsvReader::column(std::string_view name) const {
  const auto found = column_of_.find(name);
  if (found == column_of_.end()) {
    std::vector<std::string> known;
    for (std::size_t i = 0; i < std::min<std::size_t>(columns_.size(), 20); ++i) {
      known.push_back(printable(columns_[i]));
    }
    if (columns_.size() > known.size()) known.push_back("...");
    throw DataError(fmt::format("{}:1: must have a column {}, has {}", name_, printable(name),
                                fmt::join(known, ", ")));
  }
  if (found->second == kSeveral) {
    throw DataError(
        fmt::format("{}:1: must have one column {}, has more than one", name_, printable(name)));
  }
  return found->second;
}

bool CsvReader::next() {
  if (std::exchange(first_row_read_, false)) return true;
  if (!next_record()) return false;
  split();
  if (fields_.size() == columns_.size()) return true;
  const bool longer = fields_.size() > columns_.size();
  throw error_at(longer ? offsets_[columns_.size()] : end_,
                 fmt::format("a row must have {} fields, got {}", columns_.size(), fields_.size()));
}

std::int64_t CsvReader::skip(std::int64_t rows) {
  std::int64_t skipped = 0;
  if (rows > 0 && std::exchange(first_row_read_, false)) ++skipped;
  while (skipped < rows && next_record()) ++skipped;
  return skipped;
}

// Moves [begin_, end_) to the next line, or lines where quotes hold them together, that is not
// empty.
bool CsvReader::next_record() {
  do {
    begin_ = after_;
    row_line_ = next_line_;
    std::size_t searched = 0;
    bool in_quotes = false;
    while (!find_end(searched, in_quotes)) {
      if (refill()) continue;
      end_ = after_ = filled_;
      break;
    }
    if (begin_ == filled_) return false;
    if (end_ > begin_ && buffer_[end_ - 1] == '\r') --end_;
  } while (begin_ == end_);
  return true;
}

// Looks for the line break that ends the record from `searched` bytes behind its beginning on. A
// line break is inside quotes if an odd number of quotes comes before it.
bool CsvReader::find_end(std::size_t& searched, bool& in_quotes) {
  while (begin_ + searched < filled_) {
    const char* from = buffer_.data() + begin_ + searched;
    const char* stop = buffer_.data() + filled_;
    const auto* line_break =
        static_cast<const char*>(std::memchr(from, '\n', static_cast<std::size_t>(stop - from)));
    if (line_break != nullptr) stop = line_break;
    in_quotes ^= std::count(from, stop, '"') % 2 == 1;
    searched += static_cast<std::size_t>(stop - from);
    if (line_break == nullptr) return false;
    ++searched;
    ++next_line_;
    if (in_quotes) continue;
    end_ = static_cast<std::size_t>(line_break - buffer_.data());
    after_ = end_ + 1;
    return true;
  }
  return false;
}

// Reads on behind the record that has begun, which moves to the front; false at the end.
bool CsvReader::refill() {
  buffer_.erase(0, begin_);
  filled_ -= begin_;
  after_ -= begin_;
  begin_ = 0;
  if (filled_ > kMaxRowBytes) {
    throw error_at(0, fmt::format("a row must end within {} MiB; is a quote never closed?",
                                  kMaxRowBytes >> 20));
  }
  buffer_.resize(filled_ + std::max(kReadBytes, filled_));
  const std::size_t n = source_->read(std::span(buffer_).subspan(filled_));
  filled_ += n;
  return n > 0;
}

void CsvReader::split() {
  fields_.clear();
  offsets_.clear();
  unescaped_.clear();
  std::size_t at = begin_;
  for (;; ++at) {
    offsets_.push_back(at);
    at = at < end_ && buffer_[at] == '"' ? take_quoted(at) : take_plain(at);
    if (at == end_) return;
  }
}

// Both add the field at `begin` and return where it ends: at a delimiter or at end_.
std::size_t CsvReader::take_plain(std::size_t begin) {
  const char* from = buffer_.data() + begin;
  const auto* delimiter = static_cast<const char*>(std::memchr(from, delimiter_, end_ - begin));
  const std::size_t length =
      delimiter != nullptr ? static_cast<std::size_t>(delimiter - from) : end_ - begin;
  const std::string_view field(from, length);
  const std::size_t quote = field.find('"');
  if (quote != std::string_view::npos) {
    throw error_at(begin + quote,
                   "a quote must stand at the beginning of a field, or doubled inside quotes");
  }
  fields_.push_back(field);
  return begin + length;
}

std::size_t CsvReader::take_quoted(std::size_t begin) {
  const std::string_view record(buffer_.data(), end_);
  std::size_t from = begin + 1;
  std::size_t quote = record.find('"', from);
  std::size_t pieces_at = unescaped_.size();
  bool escaped = false;
  while (quote != std::string_view::npos && quote + 1 < end_ && record[quote + 1] == '"') {
    // Reserved once for the whole record: the views into it must not move.
    unescaped_.reserve(end_ - begin_);
    unescaped_.append(record.substr(from, quote + 1 - from));
    escaped = true;
    from = quote + 2;
    quote = record.find('"', from);
  }
  if (quote == std::string_view::npos) throw error_at(begin, "a quote that is never closed");
  if (quote + 1 < end_ && record[quote + 1] != delimiter_) {
    throw error_at(quote + 1, fmt::format("after a closing quote must come {} or the end of the "
                                          "line, got {}",
                                          printable({&delimiter_, 1}),
                                          printable(record.substr(quote + 1, 1))));
  }
  if (escaped) {
    unescaped_.append(record.substr(from, quote - from));
    fields_.push_back(std::string_view(unescaped_).substr(pieces_at));
  } else {
    fields_.push_back(record.substr(from, quote - from));
  }
  return quote + 1;
}

std::string_view CsvReader::trimmed_field(std::size_t column) const {
  return trimmed(fields_[column]);
}

bool CsvReader::missing(std::size_t column) const {
  return is_missing(trimmed(fields_[column]));
}

bool CsvReader::is_missing(std::string_view text) const {
  return text.empty() || std::ranges::find(options_.missing, text) != options_.missing.end();
}

bool CsvReader::is_number(std::size_t column) const {
  return trireme::is_number(trimmed(fields_[column]), options_.numbers);
}

std::optional<double> CsvReader::number(std::size_t column) const {
  const std::string_view text = trimmed(fields_[column]);
  if (is_missing(text)) return std::nullopt;
  const std::optional<double> value = number_of(text, options_.numbers);
  if (value && std::isfinite(*value)) return value;
  if (value) {
    throw error(column, fmt::format("column {} must be a number that a double can hold, got {}",
                                    printable(columns_[column]), printable(text)));
  }
  const std::optional<std::string> advice = advice_on_number(text, options_.numbers);
  throw error(column,
              fmt::format("column {} must be a number, got {}{}", printable(columns_[column]),
                          printable(text), advice ? "; " + *advice : ""));
}

DataError CsvReader::error(std::size_t column, std::string_view message) const {
  return error_at(offsets_[column], message);
}

DataError CsvReader::error_at(std::size_t offset, std::string_view message) const {
  const std::string_view before(buffer_.data() + begin_, offset - begin_);
  const std::size_t line_break = before.rfind('\n');
  const std::size_t column =
      line_break == std::string_view::npos ? before.size() + 1 : before.size() - line_break;
  return DataError(fmt::format("{}:{}:{}: {}", name_, row_line_ + std::ranges::count(before, '\n'),
                               column, message));
}

std::int64_t count_csv_rows(const std::filesystem::path& path, CsvOptions options) {
  return CsvReader(path, std::move(options)).skip(std::numeric_limits<std::int64_t>::max());
}

}  // namespace trireme
