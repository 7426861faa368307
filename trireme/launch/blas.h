#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

/// The matrix library of a process. The reference BLAS is 15 to 30 times slower than OpenBLAS, and
/// the pthread build of OpenBLAS ignores at::set_num_threads(): each rank uses every core.
enum class BlasKind : std::uint8_t {
  kNone,
  kReference,
  kAtlas,
  kOpenBlasSerial,
  kOpenBlasOpenMp,
  kOpenBlasPthread,
  kBlis,
  kMkl,
  kOther,
};

std::string_view name_of(BlasKind kind);

struct Blas {
  BlasKind kind = BlasKind::kNone;  ///< the slowest, if libraries of several kinds are loaded
  std::vector<std::string> paths;   ///< real paths of the loaded libraries

  /// How to get a faster library, in one line; empty if this one is fast.
  std::string advice() const;
};

/// The kind of the library at a real path, such as
/// /usr/lib/x86_64-linux-gnu/openblas-openmp/libblas.so.3; kNone if it is no BLAS.
BlasKind blas_kind_of(std::string_view path);

/// From the text of /proc/PID/maps, which contains real paths. On Debian, libblas.so.3 and
/// libopenblas.so.0 are two alternatives that may be of different kinds: both count.
Blas blas_of_maps(std::string_view maps);

/// The libraries that this process has loaded.
Blas blas_of_process();

}  // namespace trireme
