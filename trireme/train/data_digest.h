#pragma once

#include <string>

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"

namespace trireme {

/// What tells the data of a run from other data.
struct DataDigest {
  std::string value;   ///< BLAKE2b of the files that [data] names, in hexadecimal; "": no files
  std::string covers;  ///< "all bytes", or what of them was read
};

/// Reads the files that [data] names. Of CSV files every byte counts; of mapped files above 64 MiB
/// their size and 64 blocks of 1 MiB, spread evenly. Throws DataError if one cannot be read.
DataDigest digest_of_data(const Config& config);

/// Throws the same UsageError on every rank if a rank has other data than rank 0. Collective.
void require_same_data(const DataDigest& digest, Communicator& world);

}  // namespace trireme
