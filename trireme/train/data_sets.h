#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/data/dataset.h"
#include "trireme/data/sampler.h"
#include "trireme/data/standardize.h"
#include "trireme/data/token_dataset.h"
#include "trireme/formats/csv_schema.h"
#include "trireme/plan/run_plan.h"
#include "trireme/train/data_digest.h"

namespace trireme {

/// The data of a run: the samples to train on, their order, and the samples to evaluate on.
struct DataSets {
  const Dataset* train = nullptr;
  const Dataset* evaluation = nullptr;  ///< null: no samples are held out
  std::unique_ptr<Sampler> sampler;
  std::optional<Standardization> statistics;
  std::optional<CsvSchema> schema;  ///< of a CSV training file
  DataDigest digest;                ///< of the files
  std::string tokenizer;            ///< of tokens: what tokenizer_from_json() takes
  double evaluation_bytes = 0;      ///< of text that an evaluation predicts; 0: unknown

  /// The datasets that `train` and `evaluation` are made of: files, subsets, standardized views.
  std::vector<std::unique_ptr<Dataset>> owned;
};

/// Opens the data that [data] describes, in the precision of the plan. Collective over `world` if
/// it is standardized. With the block sampler a rank reads only the rows of its own virtual workers
/// of `tree`, unless samples are held out at random. Throws UsageError or DataError.
DataSets open_data(const Config& config, const plan::RunPlan& plan, Communicator& world,
                   const ReductionTree& tree);

}  // namespace trireme
