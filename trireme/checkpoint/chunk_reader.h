#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/runs.h"
#include "trireme/formats/safetensors.h"

namespace trireme {

/// Reads runs of a stored tensor to places in memory. Short runs that lie near each other, such as
/// the rows of a column cut, are read together through a buffer of at most kBufferBytes; long runs
/// are read in place.
class ChunkReader {
 public:
  static constexpr std::int64_t kBufferBytes = 1 << 20;

  ChunkReader(const SafetensorsFile& file, std::string stored, Buffer out);

  /// `run.first` is an offset in the stored tensor, not below the end of the run before;
  /// `run.second` is one in `out`. Throws DataError.
  void read(const CommonRun& run);
  /// Must be called after the last read(): values may be missing before.
  void finish();

 private:
  bool fits(const CommonRun& run) const;

  const SafetensorsFile& file_;
  std::string stored_;
  Buffer out_;
  std::int64_t element_bytes_;
  std::vector<CommonRun> waiting_;
  std::vector<char> memory_;
};

}  // namespace trireme
