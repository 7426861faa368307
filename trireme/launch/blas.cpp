#include "trireme/launch/blas.h"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace trireme {
namespace {

// The slowest kind first.
constexpr BlasKind kSlowestFirst[] = {
    BlasKind::kReference, BlasKind::kOpenBlasPthread,
    BlasKind::kAtlas,     BlasKind::kOpenBlasSerial,
    BlasKind::kOther,     BlasKind::kBlis,
    BlasKind::kMkl,       BlasKind::kOpenBlasOpenMp,
};

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// A line of maps ends in its path: "7f.. r-xp 00001000 fe:00 1234    /usr/lib/libm.so.6".
std::string_view path_of(std::string_view line) {
  const std::size_t start = line.find('/');
  return start == std::string_view::npos ? std::string_view() : line.substr(start);
}

}  // namespace

std::string_view name_of(BlasKind kind) {
  switch (kind) {
    case BlasKind::kNone:
      return "none";
    case BlasKind::kReference:
      return "reference";
    case BlasKind::kAtlas:
      return "atlas";
    case BlasKind::kOpenBlasSerial:
      return "openblas-serial";
    case BlasKind::kOpenBlasOpenMp:
      return "openblas-openmp";
    case BlasKind::kOpenBlasPthread:
      return "openblas-pthread";
    case BlasKind::kBlis:
      return "blis";
    case BlasKind::kMkl:
      return "mkl";
    case BlasKind::kOther:
      return "other";
  }
  return "other";
}

std::string Blas::advice() const {
  constexpr const char* kInstall = "apt-get install libopenblas0-openmp";
  switch (kind) {
    case BlasKind::kReference:
      return std::string("the reference BLAS is 15 to 30 times slower than OpenBLAS: ") + kInstall;
    case BlasKind::kOpenBlasPthread:
      return std::string("this OpenBLAS takes every core for each rank: ") + kInstall +
             " and choose it with update-alternatives --config for both "
             "libblas.so.3-x86_64-linux-gnu and libopenblas.so.0-x86_64-linux-gnu";
    default:
      return "";
  }
}

BlasKind blas_kind_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  const std::string_view file = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (has(file, "libmkl_")) return BlasKind::kMkl;
  if (file.starts_with("libblis")) return BlasKind::kBlis;
  if (!file.starts_with("libblas.so") && !file.starts_with("libopenblas")) return BlasKind::kNone;

  if (has(path, "openblas-openmp") || file.starts_with("libopenblaso")) {
    return BlasKind::kOpenBlasOpenMp;
  }
  if (has(path, "openblas-pthread") || file.starts_with("libopenblasp")) {
    return BlasKind::kOpenBlasPthread;
  }
  if (has(path, "openblas-serial")) return BlasKind::kOpenBlasSerial;
  if (has(path, "/blis")) return BlasKind::kBlis;
  if (has(path, "/atlas/")) return BlasKind::kAtlas;
  if (has(path, "/blas/")) return BlasKind::kReference;
  return BlasKind::kOther;
}

Blas blas_of_maps(std::string_view maps) {
  Blas blas;
  std::vector<BlasKind> kinds;
  while (!maps.empty()) {
    const std::size_t end = std::min(maps.find('\n'), maps.size());
    const std::string_view path = path_of(maps.substr(0, end));
    maps.remove_prefix(std::min(end + 1, maps.size()));
    const BlasKind kind = blas_kind_of(path);
    const bool seen = std::find(blas.paths.begin(), blas.paths.end(), path) != blas.paths.end();
    if (kind == BlasKind::kNone || seen) continue;
    blas.paths.emplace_back(path);
    kinds.push_back(kind);
  }
  for (const BlasKind kind : kSlowestFirst) {
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) continue;
    blas.kind = kind;
    break;
  }
  return blas;
}

Blas blas_of_process() {
  std::ifstream maps("/proc/self/maps");
  const std::string text((std::istreambuf_iterator<char>(maps)), {});
  return blas_of_maps(text);
}

}  // namespace trireme
