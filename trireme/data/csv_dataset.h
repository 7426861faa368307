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
  kDrop,   ///< the row is left out
  kMean,   ///< a feature is filled with its column's mean over the file; a target must be there
};

/// "error", "drop" or "mean". Throws UsageError for others.
MissingValues missing_values_of(std::string_view name);

struct CsvDatasetOptions {
  std::filesystem::path path;         ///< gzip or not
  std::string target;                 ///< the column to be predicted
  std::vector<std::string> features;  ///< none: all others but those of text
  bool classify = false;              ///< the target is a label, text or number
  std::vector<std::string> classes;   ///< none: all labels of the file, sorted
  MissingValues missing = MissingValues::kError;
  DType dtype = DType::kF32;  ///< kF32 or kF64
  char delimiter = 0;         ///< 0: found out
  bool header = true;         ///< false: the columns are "1", "2", ...
  std::optional<Range> rows;  ///< hold only these (of those not dropped); none: all
};

/// The rows of a CSV file as samples of (features) numbers. A rank that needs only some rows names
/// them and keeps no others:
///
///     const std::int64_t samples = count_samples(options);
///     auto sampler = block_sampler({.samples = samples, ...});
///     options.rows = sampler->rows_of(workers);
///     const CsvDataset train(options);
///
/// Labels that are all whole numbers are sorted as numbers, others as text.
class CsvDataset final : public TensorDataset {
 public:
  /// Throws DataError beginning with file:line:column for whatever is wrong in the file, and for a
  /// file without rows; UsageError for options that contradict each other.
  explicit CsvDataset(const CsvDatasetOptions& options);

  const std::vector<std::string>& features() const { return features_; }
  /// Of class 0, 1, ...; empty in a regression.
  const std::vector<std::string>& classes() const { return classes_; }

 private:
  struct Contents;
  explicit CsvDataset(Contents contents);
  static Contents read(const CsvDatasetOptions& options);

  std::vector<std::string> features_;
  std::vector<std::string> classes_;
};

/// The samples that a CsvDataset of these options has, without holding any.
std::int64_t count_samples(const CsvDatasetOptions& options);

}  // namespace trireme
