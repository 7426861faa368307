#include "trireme/base/processor.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace trireme {

bool multiplies_bf16() {
#if defined(__x86_64__) || defined(__i386__)
  // Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID.
  constexpr unsigned kFeatures = 7, kAvx512Bf16 = 1u << 5, kAmxBf16 = 1u << 22;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(kFeatures, 1, &a, &b, &c, &d) != 0 && (a & kAvx512Bf16) != 0) return true;
  return __get_cpuid_count(kFeatures, 0, &a, &b, &c, &d) != 0 && (d & kAmxBf16) != 0;
#else
  return false;
#endif
}

}  // namespace trireme
