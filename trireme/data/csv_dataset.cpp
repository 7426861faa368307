#include "trireme/data/csv_dataset.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/formats/csv.h"
#include "trireme/formats/printable.h"

namespace trireme {

namespace {

constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int64_t>::max();

using NumberOf = std::map<std::string, std::int64_t, std::less<>>;

NumberOf numbers_of(const std::vector<std::string>& labels) {
  NumberOf numbers;
  for (const std::string& label : labels) {
    numbers.try_emplace(label, static_cast<std::int64_t>(numbers.size()));
  }
  return numbers;
}

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
  Table(const CsvDatasetOptions& o, const CsvSchema& schema)
      : o_(o),
        csv_(o.path, o.format),
        target_(csv_.column(o.columns.target)),
        class_of_(numbers_of(schema.classes)),
        width_(schema.features.size()) {
    for (std::size_t input = 0; input < width_; ++input) {
      const CsvFeature& feature = schema.features[input];
      const std::size_t column = csv_.column(feature.column);
      if (!feature.is_category) {
        numbers_.push_back({column, input});
        continue;
      }
      if (categories_.empty() || categories_.back().column != column) {
        categories_.push_back({column, {}});
      }
      categories_.back().input_of.emplace(feature.category, input);
    }
    row_.resize(width_);
  }

  void read(Range wanted) {
    // Unless rows are dropped, those before and after the wanted ones are not parsed.
    const bool skips = o_.columns.missing != MissingValues::kDrop;
    if (skips) size_ = csv_.skip(wanted.begin);
    while (!(skips && size_ >= wanted.end) && csv_.next()) {
      if (!skips && has_missing()) {
        ++dropped_;
        continue;
      }
      if (wanted.contains(size_)) keep();
      ++size_;
    }
    if (skips) size_ += csv_.skip(kToTheEnd);
  }

  std::int64_t size() const { return size_; }
  std::int64_t dropped() const { return dropped_; }
  std::int64_t kept() const { return kept_; }

  at::Tensor inputs() {
    return tensor_of(std::move(inputs_), {kept_, static_cast<std::int64_t>(width_)}, type());
  }

  at::Tensor targets() {
    if (!o_.columns.classify) return tensor_of(std::move(values_), {kept_, 1}, type());
    return tensor_of(std::move(labels_), {kept_}, at::kLong);
  }

 private:
  struct NumberColumn {
    std::size_t column;
    std::size_t input;
  };
  struct CategoryColumn {
    std::size_t column;
    std::map<std::string, std::size_t, std::less<>> input_of;
  };

  static at::ScalarType type() { return std::is_same_v<T, float> ? at::kFloat : at::kDouble; }

  bool has_missing() const {
    const auto is_missing = [this](const auto& c) { return csv_.missing(c.column); };
    return is_target_missing(csv_, target_, o_.columns.classify) ||
           std::ranges::any_of(numbers_, is_missing) ||
           std::ranges::any_of(categories_, is_missing);
  }

  void keep() {
    read_numbers();
    read_categories();
    inputs_.insert(inputs_.end(), row_.begin(), row_.end());
    read_target();
    ++kept_;
  }

  void read_numbers() {
    for (const NumberColumn& c : numbers_) {
      const std::optional<double> value = csv_.number(c.column);
      if (!value) require_may_be_missing(c.column);
      row_[c.input] = narrowed(value.value_or(std::nan("")), c.column, o_.narrowed_inputs);
    }
  }

  void read_categories() {
    for (const CategoryColumn& c : categories_) {
      const bool is_missing = csv_.missing(c.column);
      if (is_missing) require_may_be_missing(c.column);
      for (const auto& [category, input] : c.input_of) {
        row_[input] = is_missing ? std::numeric_limits<T>::quiet_NaN() : T{0};
      }
      if (is_missing) continue;
      const auto found = c.input_of.find(csv_.trimmed_field(c.column));
      if (found == c.input_of.end()) {
        throw csv_.error(c.column,
                         fmt::format("column {} must have one of its {} values in the training "
                                     "file, got {}",
                                     printable(csv_.columns()[c.column]), c.input_of.size(),
                                     printable(csv_.trimmed_field(c.column))));
      }
      row_[found->second] = T{1};
    }
  }

  void read_target() {
    if (is_target_missing(csv_, target_, o_.columns.classify)) refuse_missing(target_);
    if (!o_.columns.classify) {
      values_.push_back(narrowed(*csv_.number(target_), target_, o_.narrowed_targets));
      return;
    }
    const std::string_view label = csv_.trimmed_field(target_);
    const auto found = class_of_.find(label);
    if (found == class_of_.end()) {
      throw csv_.error(target_,
                       fmt::format("the label must be one of the {} classes of the training "
                                   "data, got {}",
                                   class_of_.size(), printable(label)));
    }
    labels_.push_back(found->second);
  }

  void require_may_be_missing(std::size_t column) const {
    if (o_.columns.missing == MissingValues::kError) refuse_missing(column);
  }

  [[noreturn]] void refuse_missing(std::size_t column) const {
    throw csv_.error(column,
                     fmt::format("column {} must have a value, is missing; drop such rows{}",
                                 printable(csv_.columns()[column]),
                                 column == target_ ? "" : " or fill them with the column's mean"));
  }

  T narrowed(double value, std::size_t column, DType later) const {
    const bool must_fit_float = std::is_same_v<T, float> || later == DType::kF32;
    if (must_fit_float && std::isfinite(value) && !std::isfinite(static_cast<float>(value))) {
      throw csv_.error(
          column,
          fmt::format("column {} must have numbers that fit f32, got {}; standardize "
                      "it, or train in f64",
                      printable(csv_.columns()[column]), printable(csv_.trimmed_field(column))));
    }
    return static_cast<T>(value);
  }

  const CsvDatasetOptions& o_;
  CsvReader csv_;
  std::size_t target_;
  NumberOf class_of_;
  std::size_t width_;
  std::vector<NumberColumn> numbers_;
  std::vector<CategoryColumn> categories_;
  std::vector<T> row_;

  std::vector<T> inputs_;
  std::vector<T> values_;
  std::vector<std::int64_t> labels_;
  std::int64_t kept_ = 0;
  std::int64_t size_ = 0;  // samples seen
  std::int64_t dropped_ = 0;
};

void check_type(const CsvDatasetOptions& o) {
  if (o.dtype == DType::kF32 || o.dtype == DType::kF64) return;
  throw UsageError(
      fmt::format("CSV dataset: the type must be f32 or f64, got {}", name_of(o.dtype)));
}

}  // namespace

struct CsvDataset::Contents {
  at::Tensor inputs;
  at::Tensor targets;
  Range local;
  CsvSchema schema;
};

CsvDataset::Contents CsvDataset::read(const CsvDatasetOptions& options) {
  check_type(options);
  Contents contents;
  contents.schema =
      options.schema ? *options.schema : csv_schema(options.path, options.format, options.columns);
  const auto take = [&](auto table) {
    const Range wanted = options.rows.value_or(Range{0, kToTheEnd});
    table.read(wanted);
    contents.schema.rows = table.size();
    contents.schema.dropped_rows = table.dropped();
    contents.local = {wanted.begin, wanted.begin + table.kept()};
    contents.inputs = table.inputs();
    contents.targets = table.targets();
  };
  if (options.dtype == DType::kF32) {
    take(Table<float>(options, contents.schema));
  } else {
    take(Table<double>(options, contents.schema));
  }
  require_rows(contents.schema, options.path, options.columns.missing);
  if (options.rows && contents.local != *options.rows) {
    throw DataError(fmt::format("{}: must have the rows [{}, {}), has {}", options.path.string(),
                                options.rows->begin, options.rows->end, contents.schema.rows));
  }
  return contents;
}

CsvDataset::CsvDataset(const CsvDatasetOptions& options) : CsvDataset(read(options)) {}

CsvDataset::CsvDataset(Contents contents)
    : TensorDataset(contents.inputs, contents.targets,
                    static_cast<std::int64_t>(contents.schema.classes.size()), contents.local,
                    contents.schema.rows),
      schema_(std::move(contents.schema)) {}

}  // namespace trireme
