#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/data/dataset.h"
#include "trireme/data/sampler.h"
#include "trireme/data/standardize.h"
#include "trireme/config/config.h"

namespace trireme {

/// The data of a run: what to train on, in which order, and what to evaluate on.
struct DataSets {
  const Dataset* train = nullptr;
  const Dataset* evaluation = nullptr;  ///< null: nothing is held back
  std::unique_ptr<Sampler> sampler;
  std::optional<Standardization> statistics;

  /// What the two look at: files, parts of them, standardised views.
  std::vector<std::unique_ptr<Dataset>> owned;
};

/// Opens what [data] describes. Collective over `world` where it standardises. A rank with the
/// block sampler reads only the rows of its own virtual workers of `tree`, unless samples are held
/// out at random. Throws UsageError or DataError.
DataSets open_data(const Config& config, Communicator& world, const ReductionTree& tree);

}  // namespace trireme
