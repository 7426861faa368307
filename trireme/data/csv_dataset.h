#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/data/tensor_dataset.h"
#include "trireme/formats/csv_schema.h"

namespace trireme {

struct CsvDatasetOptions {
  std::filesystem::path path;  ///< gzip or not
  CsvSelection columns;
  CsvOptions format;
  /// Features and classes, which a test file must have of its training file; none: of this file.
  std::optional<CsvSchema> schema;
  std::optional<Range> rows;  ///< keep only these samples; none: all
  DType dtype = DType::kF32;  ///< of inputs and of targets that are numbers: kF32 or kF64
  // What inputs and targets of kF64 are narrowed to later without being scaled. A value that does
  // not fit is an error that names file and line.
  DType narrowed_inputs = DType::kF64;
  DType narrowed_targets = DType::kF64;
};

/// The rows of a CSV file as samples of (features) numbers. A rank that needs only some rows names
/// these and keeps no others:
///
///     options.schema = csv_schema(options.path, options.format, options.columns);
///     auto sampler = block_sampler({.samples = options.schema->rows, ...});
///     options.rows = sampler->rows_of(workers);
///     const CsvDataset train(options);
class CsvDataset final : public TensorDataset {
 public:
  /// Throws DataError, which begins with file:line:column, for a faulty file, for a value that does
  /// not fit the type and for a file without rows; UsageError for options that contradict each
  /// other.
  explicit CsvDataset(const CsvDatasetOptions& options);

  /// Returns what is used of the file. The counts of rows are those of this file.
  const CsvSchema& schema() const { return schema_; }

 private:
  struct Contents;
  explicit CsvDataset(Contents contents);
  static Contents read(const CsvDatasetOptions& options);

  CsvSchema schema_;
};

}  // namespace trireme
