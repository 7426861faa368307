#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/data/tensor_dataset.h"

namespace trireme {

enum class MissingValues {
  kError,  ///< a DataError naming line and column
  kDrop,   ///< the row is skipped
  kMean,   ///< a feature gets its column's mean over the file; a target must have a value
};

/// "error", "drop" or "mean". Throws UsageError for others.
MissingValues missing_values_of(std::string_view name);

struct CsvDatasetOptions {
  std::filesystem::path path;         ///< gzip or not
  std::string target;                 ///< the column to predict
  std::vector<std::string> features;  ///< none: all other columns of numbers
  bool classify = false;              ///< the target is a label, text or number
  std::vector<std::string> classes;   ///< none: all labels of the file, sorted
  MissingValues missing = MissingValues::kError;
  DType dtype = DType::kF32;  ///< kF32 or kF64
  char delimiter = 0;         ///< 0: detected
  bool header = true;         ///< false: the columns are "1", "2", ...
  std::optional<Range> rows;  ///< keep only these rows (without dropped ones); none: all
};

/// The rows of a CSV file as samples of (features) numbers. A rank that needs only some rows names
/// these and keeps no others:
///
///     const std::int64_t samples = count_samples(options);
///     auto sampler = block_sampler({.samples = samples, ...});
///     options.rows = sampler->rows_of(workers);
///     const CsvDataset train(options);
///
/// Labels are sorted as numbers if all of them are whole numbers, and as text otherwise.
class CsvDataset final : public TensorDataset {
 public:
  /// Throws DataError, which begins with file:line:column, for a faulty file and for a file without
  /// rows; UsageError for options that contradict each other.
  explicit CsvDataset(const CsvDatasetOptions& options);

  const std::vector<std::string>& features() const { return features_; }
  /// Returns the labels of class 0, 1, ...; empty in a regression.
  const std::vector<std::string>& classes() const { return classes_; }

 private:
  struct Contents;
  explicit CsvDataset(Contents contents);
  static Contents read(const CsvDatasetOptions& options);

  std::vector<std::string> features_;
  std::vector<std::string> classes_;
};

/// Returns the number of samples that a CsvDataset of these options has, without reading them in.
std::int64_t count_samples(const CsvDatasetOptions& options);

}  // namespace trireme
