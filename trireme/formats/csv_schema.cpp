#include "trireme/formats/csv_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "trireme/base/pattern.h"
#include "trireme/formats/printable.h"

namespace trireme {

namespace {

// A column with more is free text or an identifier.
constexpr std::size_t kMostCategories = 10'000;

using TextSet = std::set<std::string, std::less<>>;

enum class Use : std::uint8_t { kUndecided, kNumbers, kCategories, kTarget, kUnused };

struct Column {
  Use use = Use::kUndecided;
  std::string reason;  // if it is not used
  std::int64_t numbers = 0;
  std::int64_t texts = 0;
  std::string first_text;
  std::int64_t line_of_first_text = 0;
  // The first text, if it is a number in another spelling; nothing once another text is not.
  std::optional<DataError> other_spelling;
  TextSet categories;
};

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string> sorted_labels(const TextSet& labels) {
  std::vector<std::string> sorted(labels.begin(), labels.end());
  const auto is_whole = [](const std::string& label) { return whole_number(label).has_value(); };
  if (std::ranges::all_of(sorted, is_whole)) {
    std::ranges::sort(sorted, {}, [](const auto& l) { return std::pair(*whole_number(l), l); });
  }
  return sorted;
}

class SchemaReader {
 public:
  SchemaReader(const std::filesystem::path& path, const CsvOptions& options,
               const CsvSelection& selection)
      : path_(path),
        options_(options),
        selection_(selection),
        csv_(std::in_place, path, options),
        target_(csv_->column(selection.target)),
        columns_(csv_->columns().size()) {
    decide_from_names();
  }

  CsvSchema read() {
    if (is_any_undecided() || (selection_.classify && !drops())) {
      while (csv_->next()) read_row();
    } else if (!drops()) {
      schema_.rows = csv_->skip(std::numeric_limits<std::int64_t>::max());
    }
    decide_from_values();
    if (drops()) count_whole_rows();
    require_rows(schema_, path_, selection_.missing);
    if (selection_.classify) schema_.classes = sorted_labels(labels_);
    add_features();
    return std::move(schema_);
  }

 private:
  bool drops() const { return selection_.missing == MissingValues::kDrop; }
  const std::string& name(std::size_t column) const { return csv_->columns()[column]; }

  struct Named {
    std::size_t column;
    bool is_by_pattern;
  };

  // The columns that the names and patterns `wanted` of data.`key` name, in their order.
  std::vector<Named> columns_of(const std::vector<std::string>& wanted, const char* key) const {
    std::vector<Named> found;
    for (const std::string& text : wanted) {
      const std::size_t before = found.size();
      if (csv_->has_column(text)) {
        found.push_back({csv_->column(text), false});
        if (found.back().column == target_) refuse_target(key);
        continue;
      }
      for (std::size_t c = 0; c < columns_.size(); ++c) {
        if (c != target_ && matches_pattern(name(c), text)) found.push_back({c, true});
      }
      if (found.size() > before) continue;
      if (text.find_first_of("*?") == std::string::npos) csv_->column(text);  // throws
      throw UsageError(fmt::format("{}: {} in data.{} must match a column, matches none",
                                   path_.string(), printable(text), key));
    }
    return found;
  }

  [[noreturn]] void refuse_target(const char* key) const {
    throw UsageError(fmt::format("data.{} must not have the target {}; remove it there", key,
                                 printable(selection_.target)));
  }

  void decide_from_names() {
    columns_[target_].use = Use::kTarget;
    for (const Named& ignored : columns_of(selection_.ignored, "ignore")) {
      leave_out(ignored.column, "in data.ignore");
    }
    const std::vector<Named> features = columns_of(selection_.features, "features");
    for (const Named& feature : features) {
      Column& c = columns_[feature.column];
      if (c.use == Use::kUndecided && !feature.is_by_pattern) c.use = Use::kNumbers;
      if (c.use != Use::kUnused || feature.is_by_pattern) continue;
      throw UsageError(
          fmt::format("column {} must be either in data.features or in data.ignore, is in both",
                      printable(name(feature.column))));
    }
    const std::vector<Named> categorical = columns_of(selection_.categorical, "categorical");
    for (const Named& named : categorical) {
      Column& c = columns_[named.column];
      if (c.use != Use::kUnused) c.use = Use::kCategories;
    }
    put_in_order(features, categorical);
  }

  // Features in the order in which they are named, then categorical columns that are not among
  // them; or all columns in the file's order.
  void put_in_order(std::span<const Named> features, std::span<const Named> categorical) {
    std::vector<char> is_in_order(columns_.size(), 0);
    const auto add = [&](std::size_t column) {
      const Use use = columns_[column].use;
      if (use == Use::kUnused || use == Use::kTarget || is_in_order[column] != 0) return;
      is_in_order[column] = 1;
      order_.push_back(column);
    };
    if (features.empty()) {
      for (std::size_t c = 0; c < columns_.size(); ++c) add(c);
      return;
    }
    for (const Named& named : features) add(named.column);
    for (const Named& named : categorical) add(named.column);
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const bool is_left_out = columns_[c].use != Use::kTarget && is_in_order[c] == 0;
      if (is_left_out && columns_[c].use != Use::kUnused) leave_out(c, "not in data.features");
    }
  }

  void leave_out(std::size_t column, std::string reason) {
    columns_[column].use = Use::kUnused;
    columns_[column].reason = std::move(reason);
  }

  bool is_any_undecided() const {
    return std::ranges::any_of(columns_, [](const Column& c) {
      return c.use == Use::kUndecided || c.use == Use::kCategories;
    });
  }

  void read_row() {
    for (const std::size_t column : order_) note_value(column);
    if (!drops()) count_row();
  }

  void count_row() {
    ++schema_.rows;
    if (selection_.classify) note_label();
  }

  // A second pass: whether a row is dropped depends on which columns are used.
  void count_whole_rows() {
    csv_.emplace(path_, options_);
    while (csv_->next()) {
      if (has_missing()) {
        ++schema_.dropped_rows;
      } else {
        count_row();
      }
    }
  }

  bool has_missing() const {
    if (is_target_missing(*csv_, target_, selection_.classify)) return true;
    return std::ranges::any_of(order_, [&](std::size_t column) {
      return columns_[column].use != Use::kUnused && csv_->missing(column);
    });
  }

  void note_label() {
    const std::string_view label = csv_->trimmed_field(target_);
    if (label.empty()) return;  // an error when the row is read
    if (label.size() != csv_->field(target_).size()) ++schema_.trimmed_labels;
    labels_.emplace(label);
  }

  void note_value(std::size_t column) {
    Column& c = columns_[column];
    if (c.use == Use::kNumbers || csv_->missing(column)) return;
    const std::string_view text = csv_->trimmed_field(column);
    if (c.use == Use::kCategories) return note_category(column, text);
    if (csv_->is_number(column)) {
      ++c.numbers;
    } else {
      note_text(column, text);
    }
    if (c.numbers > 0 && c.texts > 0) refuse_mixture(column);
  }

  void note_category(std::size_t column, std::string_view text) {
    TextSet& categories = columns_[column].categories;
    if (categories.contains(text)) return;
    if (categories.size() == kMostCategories) {
      throw csv_->error(column, fmt::format("column {} in data.categorical must have at most {} "
                                            "different values, has more",
                                            printable(name(column)), kMostCategories));
    }
    categories.emplace(text);
  }

  void note_text(std::size_t column, std::string_view text) {
    Column& c = columns_[column];
    ++c.texts;
    if (c.texts > 1 && !c.other_spelling) return;
    const std::optional<std::string> advice = advice_on_number(text, options_.numbers);
    if (!advice) c.other_spelling.reset();
    if (c.texts > 1) return;
    c.first_text = text;
    c.line_of_first_text = csv_->line();
    if (!advice) return;
    c.other_spelling = csv_->error(
        column, fmt::format("column {} looks like numbers in another spelling, got {}; {}, or name "
                            "the column in data.categorical or data.ignore",
                            printable(name(column)), printable(text), *advice));
  }

  [[noreturn]] void refuse_mixture(std::size_t column) const {
    const Column& c = columns_[column];
    const std::string_view text = csv_->trimmed_field(column);
    const bool is_text = !csv_->is_number(column);
    const std::string before =
        is_text ? "numbers"
                : fmt::format("{} in line {}", printable(c.first_text), c.line_of_first_text);
    const std::optional<std::string> advice =
        advice_on_number(is_text ? text : std::string_view(c.first_text), options_.numbers);
    throw csv_->error(
        column,
        fmt::format("column {} must be numbers or text throughout, got {} after {}; {}",
                    printable(name(column)), printable(text), before,
                    advice ? *advice
                           : "name what stands for a missing value in data.na_values, or the "
                             "column in data.categorical or data.ignore"));
  }

  void decide_from_values() {
    for (const std::size_t column : order_) {
      Column& c = columns_[column];
      if (c.other_spelling) throw DataError(*c.other_spelling);
      if (c.use != Use::kUndecided) continue;
      if (c.numbers > 0) {
        c.use = Use::kNumbers;
      } else if (c.texts == 0) {
        leave_out(column, "has no values");
      } else {
        leave_out(column, fmt::format("is text, {} in line {}", printable(c.first_text),
                                      c.line_of_first_text));
      }
    }
  }

  void add_features() {
    for (const std::size_t column : order_) {
      Column& c = columns_[column];
      if (c.use == Use::kUnused) continue;
      csv_->column(name(column));  // throws if two columns have this name
      if (c.use == Use::kNumbers) {
        schema_.features.push_back({name(column), /*is_category=*/false, ""});
        continue;
      }
      for (const std::string& category : sorted_labels(c.categories)) {
        schema_.features.push_back({name(column), /*is_category=*/true, category});
      }
    }
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      if (columns_[c].use == Use::kUnused) schema_.unused.push_back({name(c), columns_[c].reason});
    }
    if (schema_.features.empty()) {
      throw DataError(fmt::format("{}: must have a column of numbers beside {}, has none",
                                  path_.string(), printable(selection_.target)));
    }
  }

  const std::filesystem::path& path_;
  const CsvOptions& options_;
  const CsvSelection& selection_;
  std::optional<CsvReader> csv_;
  std::size_t target_;
  std::vector<Column> columns_;
  std::vector<std::size_t> order_;  // of the columns that are features or may be
  TextSet labels_;
  CsvSchema schema_;
};

}  // namespace

std::string CsvFeature::name() const {
  return is_category ? column + "=" + category : column;
}

std::vector<std::string> CsvSchema::columns() const {
  std::vector<std::string> names;
  for (const CsvFeature& feature : features) {
    if (names.empty() || names.back() != feature.column) names.push_back(feature.column);
  }
  return names;
}

bool is_target_missing(const CsvReader& csv, std::size_t target, bool classify) {
  return classify ? csv.trimmed_field(target).empty() : csv.missing(target);
}

void require_rows(const CsvSchema& schema, const std::filesystem::path& path,
                  MissingValues missing) {
  if (schema.rows > 0) return;
  throw DataError(fmt::format(
      "{}: must have rows, has none{}", path.string(),
      missing == MissingValues::kDrop ? " without missing values" : " below its header"));
}

CsvSchema csv_schema(const std::filesystem::path& path, const CsvOptions& options,
                     const CsvSelection& selection) {
  return SchemaReader(path, options, selection).read();
}

}  // namespace trireme
