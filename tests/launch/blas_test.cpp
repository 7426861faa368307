#include "trireme/launch/blas.h"

#include <gmock/gmock.h>

namespace trireme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string maps_line(const std::string& path) {
  return "7f1c2a000000-7f1c2a021000 r-xp 00001000 fe:00 131    " + path + "\n";
}

const std::string kDebian = "/usr/lib/x86_64-linux-gnu/";

TEST(Blas, FindsDebiansLibrariesByTheirRealPaths) {
  EXPECT_EQ(blas_kind_of(kDebian + "blas/libblas.so.3.11.0"), BlasKind::kReference);
  EXPECT_EQ(blas_kind_of(kDebian + "atlas/libblas.so.3.10.3"), BlasKind::kAtlas);
  EXPECT_EQ(blas_kind_of(kDebian + "openblas-openmp/libblas.so.3"), BlasKind::kOpenBlasOpenMp);
  EXPECT_EQ(blas_kind_of(kDebian + "openblas-openmp/libopenblasp-r0.3.21.so"),
            BlasKind::kOpenBlasOpenMp);
  EXPECT_EQ(blas_kind_of(kDebian + "openblas-pthread/libopenblasp-r0.3.21.so"),
            BlasKind::kOpenBlasPthread);
  EXPECT_EQ(blas_kind_of(kDebian + "openblas-serial/libopenblas-r0.3.21.so"),
            BlasKind::kOpenBlasSerial);
  EXPECT_EQ(blas_kind_of(kDebian + "blis-openmp/libblas.so.3"), BlasKind::kBlis);
  EXPECT_EQ(blas_kind_of(kDebian + "blis-openmp/libblis.so.4"), BlasKind::kBlis);
  EXPECT_EQ(blas_kind_of("/opt/intel/mkl/lib/intel64/libmkl_rt.so.2"), BlasKind::kMkl);
  EXPECT_EQ(blas_kind_of("/home/me/lib/libblas.so.3"), BlasKind::kOther);
  EXPECT_EQ(blas_kind_of(kDebian + "libm.so.6"), BlasKind::kNone);
  EXPECT_EQ(blas_kind_of(kDebian + "libgslcblas.so.0"), BlasKind::kNone);
}

TEST(Blas, AProcessWithoutOneHasNoneAndNoAdvice) {
  const Blas blas = blas_of_maps(maps_line(kDebian + "libm.so.6") + "7ffd000 rw-p 0 [stack]\n");
  EXPECT_EQ(blas.kind, BlasKind::kNone);
  EXPECT_EQ(blas.advice(), "");
}

TEST(Blas, OfTwoAlternativesTheSlowerOneCounts) {
  const std::string slow = kDebian + "blas/libblas.so.3.11.0";
  const std::string fast = kDebian + "openblas-openmp/libopenblasp-r0.3.21.so";
  for (const std::string& maps :
       {maps_line(slow) + maps_line(slow) + maps_line(fast), maps_line(fast) + maps_line(slow)}) {
    const Blas blas = blas_of_maps(maps);
    EXPECT_EQ(blas.kind, BlasKind::kReference);
    EXPECT_THAT(blas.paths, testing::UnorderedElementsAre(slow, fast));
    EXPECT_THAT(blas.advice(), HasSubstr("apt-get install libopenblas0-openmp"));
  }
}

TEST(Blas, AdvisesAgainstTheFlavourThatTakesEveryCore) {
  const Blas blas = blas_of_maps(maps_line(kDebian + "openblas-pthread/libblas.so.3"));
  EXPECT_EQ(blas.kind, BlasKind::kOpenBlasPthread);
  EXPECT_THAT(blas.advice(), HasSubstr("apt-get install libopenblas0-openmp"));
  EXPECT_THAT(blas.advice(), HasSubstr("libblas.so.3-x86_64-linux-gnu"));
  EXPECT_THAT(blas.advice(), HasSubstr("libopenblas.so.0-x86_64-linux-gnu"));
}

TEST(Blas, TheOpenMpFlavourNeedsNoAdvice) {
  const std::string path = kDebian + "openblas-openmp/libblas.so.3";
  const Blas blas = blas_of_maps(maps_line(path));
  EXPECT_EQ(blas.kind, BlasKind::kOpenBlasOpenMp);
  EXPECT_THAT(blas.paths, ElementsAre(path));
  EXPECT_EQ(blas.advice(), "");
}

}  // namespace
}  // namespace trireme
