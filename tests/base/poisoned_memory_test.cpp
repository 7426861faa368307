#include "trireme/base/poisoned_memory.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace trireme {
namespace {

TEST(PoisonedMemory, IsNaNInEveryTypeUpToItsEnd) {
  for (const std::size_t bytes :
       {std::size_t{8}, std::size_t{1} << 16, (std::size_t{1} << 30) + 8}) {
    const PoisonedMemory memory(bytes);
    const auto* const f32 = static_cast<const float*>(memory.data());
    const auto* const f64 = static_cast<const double*>(memory.data());
    for (const std::size_t at : {std::size_t{0}, bytes / 2 / 8 * 8, bytes - 8}) {
      EXPECT_TRUE(std::isnan(f32[at / 4])) << at;
      EXPECT_TRUE(std::isnan(f64[at / 8])) << at;
      EXPECT_EQ(static_cast<const std::uint16_t*>(memory.data())[at / 2], 0xFFFF);
    }
  }
}

TEST(PoisonedMemory, MayBeEmpty) {
  const PoisonedMemory memory(0);
  EXPECT_EQ(memory.data(), nullptr);
}

TEST(PoisonedMemoryDeath, EndsAProcessThatWritesToIt) {
  const PoisonedMemory memory(100);
  EXPECT_DEATH(*static_cast<volatile float*>(memory.data()) = 1, "");
}

}  // namespace
}  // namespace trireme
