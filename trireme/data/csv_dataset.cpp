#include "trireme/data/csv_dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <memory>

#include "trireme/base/error.h"
#include "trireme/formats/csv.h"
#include "trireme/formats/printable.h"

namespace trireme {

namespace {

constexpr std::int64_t kInspectedRows = 100;
constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int64_t>::max();

CsvOptions csv_options(const CsvDatasetOptions& o) {
  return {.delimiter = o.delimiter, .header = o.header};
}

bool is_number(const CsvReader& csv, std::size_t column) {
  try {
    return csv.number(column).has_value();
  } catch (const DataError&) {
    return false;
  }
}

// The columns other than the target that have numbers in the first rows. Columns of text are
// skipped; a column of numbers and text is an error, because skipping it would train on less than
// the user thinks. Every rank looks at the same rows.
std::vector<std::string> numeric_columns(const CsvDatasetOptions& o) {
  CsvReader csv(o.path, csv_options(o));
  const std::size_t columns = csv.columns().size();
  std::vector<bool> number(columns, false), text(columns, false);
  for (std::int64_t row = 0; row < kInspectedRows && csv.next(); ++row) {
    for (std::size_t c = 0; c < columns; ++c) {
      if (csv.missing(c) || csv.columns()[c] == o.target) continue;
      (is_number(csv, c) ? number : text)[c] = true;
      if (number[c] && text[c]) {
        throw csv.error(
            c, fmt::format("must be numbers or text throughout, got {} after {}; name "
                           "the columns to use in data.features",
                           printable(csv.field(c)), is_number(csv, c) ? "text" : "numbers"));
      }
    }
  }
  std::vector<std::string> names;
  for (std::size_t c = 0; c < columns; ++c) {
    if (number[c]) names.push_back(csv.columns()[c]);
  }
  if (names.empty()) {
    throw DataError(fmt::format("{}: must have a column of numbers beside {}, has none",
                                o.path.string(), printable(o.target)));
  }
  return names;
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Numbers the labels in the order in which they come; sorted() renumbers them at the end.
class Labels {
 public:
  explicit Labels(const std::vector<std::string>& known) : fixed_(!known.empty()) {
    for (const std::string& label : known) number_of_.try_emplace(label, number_of_.size());
  }

  std::optional<std::int64_t> number(std::string_view label) {
    const auto found = number_of_.find(label);
    if (found != number_of_.end()) return static_cast<std::int64_t>(found->second);
    if (fixed_) return std::nullopt;
    return static_cast<std::int64_t>(
        number_of_.try_emplace(std::string(label), number_of_.size()).first->second);
  }

  /// Returns the labels in their final order and changes `numbers` to it.
  std::vector<std::string> sorted(std::span<std::int64_t> numbers) const {
    std::vector<std::string> labels(number_of_.size());
    for (const auto& [label, number] : number_of_) labels[number] = label;
    if (fixed_) return labels;
    const std::vector<std::string> before = labels;
    if (std::ranges::all_of(labels, [](const auto& l) { return whole_number(l).has_value(); })) {
      std::ranges::sort(labels, {}, [](const auto& l) { return std::pair(*whole_number(l), l); });
    } else {
      std::ranges::sort(labels);
    }
    std::map<std::string_view, std::int64_t> final_number;
    for (std::size_t i = 0; i < labels.size(); ++i) {
      final_number[labels[i]] = static_cast<std::int64_t>(i);
    }
    for (std::int64_t& n : numbers) n = final_number[before[static_cast<std::size_t>(n)]];
    return labels;
  }

 private:
  bool fixed_;
  std::map<std::string, std::size_t, std::less<>> number_of_;
};

// `values` as a tensor that owns them.
template <class T>
at::Tensor tensor_of(std::vector<T> values, at::IntArrayRef shape, at::ScalarType type) {
  // from_blob() does not call the deleter of a null pointer.
  if (values.empty()) return at::empty(shape, type);
  const auto owned = std::make_shared<std::vector<T>>(std::move(values));
  return at::from_blob(
      owned->data(), shape, [owned](void*) {}, type);
}

// Reads rows of type T and keeps those of the range.
template <class T>
class Table {
 public:
  Table(const CsvDatasetOptions& o, const std::vector<std::string>& features)
      : o_(o), csv_(o.path, csv_options(o)), target_(csv_.column(o.target)), labels_(o.classes) {
    for (const std::string& name : features) columns_.push_back(csv_.column(name));
    sums_.assign(columns_.size(), 0.0);
    counts_.assign(columns_.size(), 0);
    row_.resize(columns_.size());
  }

  void read(Range wanted) {
    // If nothing depends on the other rows, they are not parsed.
    const bool skips = o_.missing == MissingValues::kError && (!o_.classify || !o_.classes.empty());
    if (skips) size_ = csv_.skip(wanted.begin);
    while (!(skips && size_ >= wanted.end) && csv_.next()) {
      if (!read_row()) continue;
      if (wanted.contains(size_)) keep();
      ++size_;
    }
    if (skips) size_ += csv_.skip(kToTheEnd);
    fill_missing();
  }

  std::int64_t size() const { return size_; }
  std::int64_t kept() const { return kept_; }

  at::Tensor inputs() {
    const auto width = static_cast<std::int64_t>(columns_.size());
    return tensor_of(std::move(inputs_), {kept_, width}, type());
  }

  at::Tensor targets(std::vector<std::string>& classes) {
    if (!o_.classify) return tensor_of(std::move(values_), {kept_, 1}, type());
    classes = labels_.sorted(numbers_);
    return tensor_of(std::move(numbers_), {kept_}, at::kLong);
  }

 private:
  static at::ScalarType type() { return std::is_same_v<T, float> ? at::kFloat : at::kDouble; }

  // Reads the row into row_, value_ and number_. Returns false if it must be dropped.
  bool read_row() {
    if (o_.missing == MissingValues::kDrop && has_missing()) return false;
    for (std::size_t j = 0; j < columns_.size(); ++j) {
      const std::optional<double> value = csv_.number(columns_[j]);
      if (!value && o_.missing == MissingValues::kError) refuse_missing(columns_[j]);
      row_[j] = static_cast<T>(value.value_or(std::nan("")));
      if (value) {
        sums_[j] += *value;
        ++counts_[j];
      }
    }
    if (csv_.missing(target_)) refuse_missing(target_);
    if (!o_.classify) {
      value_ = static_cast<T>(*csv_.number(target_));
      return true;
    }
    const std::optional<std::int64_t> number = labels_.number(csv_.field(target_));
    if (!number) {
      throw csv_.error(target_, fmt::format("the label must be one of the {} classes, got {}",
                                            o_.classes.size(), printable(csv_.field(target_))));
    }
    number_ = *number;
    return true;
  }

  bool has_missing() const {
    return csv_.missing(target_) ||
           std::ranges::any_of(columns_, [&](std::size_t c) { return csv_.missing(c); });
  }

  [[noreturn]] void refuse_missing(std::size_t column) const {
    throw csv_.error(column,
                     fmt::format("column {} must have a value, is missing; drop such rows{}",
                                 printable(csv_.columns()[column]),
                                 column == target_ ? "" : " or fill them with the column's mean"));
  }

  void keep() {
    inputs_.insert(inputs_.end(), row_.begin(), row_.end());
    if (o_.classify) {
      numbers_.push_back(number_);
    } else {
      values_.push_back(value_);
    }
    ++kept_;
  }

  void fill_missing() {
    if (o_.missing != MissingValues::kMean) return;
    const std::size_t width = columns_.size();
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (!std::isnan(inputs_[i])) continue;
      const std::size_t j = i % width;
      inputs_[i] =
          static_cast<T>(counts_[j] > 0 ? sums_[j] / static_cast<double>(counts_[j]) : 0.0);
    }
  }

  const CsvDatasetOptions& o_;
  CsvReader csv_;
  std::vector<std::size_t> columns_;
  std::size_t target_;
  Labels labels_;

  std::vector<T> row_;
  T value_ = 0;
  std::int64_t number_ = 0;

  std::vector<T> inputs_;
  std::vector<T> values_;
  std::vector<std::int64_t> numbers_;
  std::int64_t kept_ = 0;
  std::int64_t size_ = 0;  // rows seen, without those dropped

  std::vector<double> sums_;
  std::vector<std::int64_t> counts_;
};

void check(const CsvDatasetOptions& o) {
  if (o.dtype != DType::kF32 && o.dtype != DType::kF64) {
    throw UsageError(
        fmt::format("CSV dataset: the type must be f32 or f64, got {}", name_of(o.dtype)));
  }
  if (!o.classify && !o.classes.empty()) {
    throw UsageError("CSV dataset: classes are for a target that is a label; set classify");
  }
  if (std::ranges::count(o.features, o.target) > 0) {
    throw UsageError(
        fmt::format("CSV dataset: the target {} cannot be a feature too", printable(o.target)));
  }
}

}  // namespace

struct CsvDataset::Contents {
  at::Tensor inputs;
  at::Tensor targets;
  Range local;
  std::int64_t size = 0;
  std::vector<std::string> features;
  std::vector<std::string> classes;
};

CsvDataset::Contents CsvDataset::read(const CsvDatasetOptions& options) {
  check(options);
  Contents contents;
  contents.features = options.features.empty() ? numeric_columns(options) : options.features;
  const auto take = [&](auto table) {
    const Range wanted = options.rows.value_or(Range{0, kToTheEnd});
    table.read(wanted);
    contents.size = table.size();
    contents.local = {wanted.begin, wanted.begin + table.kept()};
    contents.inputs = table.inputs();
    contents.targets = table.targets(contents.classes);
  };
  if (options.dtype == DType::kF32) {
    take(Table<float>(options, contents.features));
  } else {
    take(Table<double>(options, contents.features));
  }
  if (contents.size == 0) {
    throw DataError(fmt::format(
        "{}: must have rows, has none{}", options.path.string(),
        options.missing == MissingValues::kDrop ? " without missing values" : " below its header"));
  }
  if (options.rows && contents.local != *options.rows) {
    throw DataError(fmt::format("{}: must have the rows [{}, {}), has {}", options.path.string(),
                                options.rows->begin, options.rows->end, contents.size));
  }
  return contents;
}

CsvDataset::CsvDataset(const CsvDatasetOptions& options) : CsvDataset(read(options)) {}

CsvDataset::CsvDataset(Contents contents)
    : TensorDataset(contents.inputs, contents.targets,
                    static_cast<std::int64_t>(contents.classes.size()), contents.local,
                    contents.size),
      features_(std::move(contents.features)),
      classes_(std::move(contents.classes)) {}

MissingValues missing_values_of(std::string_view name) {
  if (name == "error") return MissingValues::kError;
  if (name == "drop") return MissingValues::kDrop;
  if (name == "mean") return MissingValues::kMean;
  throw UsageError(fmt::format(
      "missing values must be treated as \"error\", \"drop\" or \"mean\", got \"{}\"", name));
}

std::int64_t count_samples(const CsvDatasetOptions& options) {
  if (options.missing != MissingValues::kDrop) {
    return count_csv_rows(options.path, csv_options(options));
  }
  CsvDatasetOptions none = options;
  none.rows = Range{0, 0};
  return CsvDataset(none).size();
}

}  // namespace trireme
