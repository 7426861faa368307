#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "trireme/formats/csv.h"

namespace trireme {

enum class MissingValues {
  kError,  ///< a DataError naming line and column
  kDrop,   ///< the row is no sample
  kKeep,   ///< a feature is NaN, to be filled later; a target must have a value
};

/// Which columns of a CSV file are used, and how. Lists hold names of columns or patterns with *
/// and ?; a column is looked up as a name first.
struct CsvSelection {
  std::string target;                    ///< the column to predict
  std::vector<std::string> features;     ///< none: all others that are not of text
  std::vector<std::string> categorical;  ///< each of their values becomes an input of 0 or 1
  std::vector<std::string> ignored;      ///< never used
  bool classify = false;                 ///< the target is a label, text or number
  MissingValues missing = MissingValues::kError;
};

/// One input of a model.
struct CsvFeature {
  std::string column;
  bool is_category = false;
  std::string category;  ///< the input is 1 where the column has this value, else 0

  /// Returns "rooms", or "color=red".
  std::string name() const;
  bool operator==(const CsvFeature&) const = default;
};

struct UnusedCsvColumn {
  std::string name;
  std::string reason;

  bool operator==(const UnusedCsvColumn&) const = default;
};

/// What a CSV file holds for a model.
struct CsvSchema {
  std::vector<CsvFeature> features;  ///< in the order of the model's inputs
  std::vector<UnusedCsvColumn> unused;
  /// The labels in the order of their numbers: sorted as numbers if all are whole numbers, else as
  /// text. Empty in a regression.
  std::vector<std::string> classes;
  std::int64_t rows = 0;            ///< samples: rows without dropped ones
  std::int64_t dropped_rows = 0;    ///< rows with missing values, if these are dropped
  std::int64_t trimmed_labels = 0;  ///< labels with blanks around them, which do not count

  /// Returns the columns of the features, each once.
  std::vector<std::string> columns() const;
};

/// Reads the whole file once and decides which columns are used. The types of columns are decided
/// from all rows. A file whose columns are all named and whose rows all count is only counted.
///
/// A label is missing only if it is empty: "NA" and "None" are labels.
///
/// Throws DataError, which begins with file:line:column, for a column of numbers and text, for a
/// column of numbers in another spelling (which it says how to read) and for a faulty file;
/// UsageError for a selection that contradicts itself or names no column of the file.
CsvSchema csv_schema(const std::filesystem::path& path, const CsvOptions& options,
                     const CsvSelection& selection);

/// Throws DataError if the file at `path` has no samples.
void require_rows(const CsvSchema& schema, const std::filesystem::path& path,
                  MissingValues missing);

/// Returns true if the row that `csv` is at has no label or no number in `target`.
bool is_target_missing(const CsvReader& csv, std::size_t target, bool classify);

}  // namespace trireme
