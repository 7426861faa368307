#include "trireme/tensor/allocation_meter.h"

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <thread>

#include "trireme/base/error.h"

namespace trireme {
namespace {

TEST(AllocationMeter, CountsATensorUntilItsMemoryIsFreed) {
  AllocationMeter meter;
  EXPECT_EQ(meter.live_bytes(), 0);
  at::Tensor x = at::zeros({1001});
  const at::Tensor view = x.narrow(0, 10, 20);
  EXPECT_EQ(meter.live_bytes(), 4004);
  x.reset();
  EXPECT_EQ(meter.live_bytes(), 4004) << "a view keeps all of it";
  const at::Tensor y = at::empty({3}, at::kDouble);
  EXPECT_EQ(meter.live_bytes(), 4004 + 24);
}

TEST(AllocationMeter, TakesThePeakSinceItWasLastTaken) {
  AllocationMeter meter;
  const at::Tensor kept = at::empty({100});
  at::empty({1000});
  EXPECT_EQ(meter.take_peak(), 400 + 4000);
  EXPECT_EQ(meter.take_peak(), 400);
  at::empty({10});
  EXPECT_EQ(meter.take_peak(), 440);
}

TEST(AllocationMeter, CountsOnEveryThread) {
  AllocationMeter meter;
  at::Tensor x;
  std::thread([&] { x = at::empty({25}); }).join();
  EXPECT_EQ(meter.live_bytes(), 100);
  std::thread([y = std::move(x)]() mutable { y.reset(); }).join();
  EXPECT_EQ(meter.live_bytes(), 0);
}

TEST(AllocationMeter, DoesNotCountWhatIsOlder) {
  at::Tensor older = at::empty({25});
  at::Tensor of_another_meter;
  {
    const AllocationMeter other;
    of_another_meter = at::ones({50});
  }
  AllocationMeter meter;
  older.reset();
  EXPECT_EQ(of_another_meter.sum().item<float>(), 50);
  of_another_meter.reset();
  EXPECT_EQ(meter.live_bytes(), 0);
}

TEST(AllocationMeter, KeepsTheAlignmentOfLibtorch) {
  const AllocationMeter meter;
  for (const std::int64_t bytes : {1, 7, 64, 1000}) {
    const at::Tensor x = at::empty({bytes}, at::kByte);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.data_ptr()) % 64, 0U);
  }
}

// They return memory to the allocator that is there when they return it.
TEST(AllocationMeter, LetsLibrariesKeepMemoryBeyondIt) {
  void* older = c10::GetAllocator(c10::DeviceType::CPU)->raw_allocate(100);
  void* newer = nullptr;
  {
    AllocationMeter meter;
    c10::GetAllocator(c10::DeviceType::CPU)->raw_deallocate(older);
    EXPECT_EQ(meter.live_bytes(), 0);
    newer = c10::GetAllocator(c10::DeviceType::CPU)->raw_allocate(100);
    EXPECT_EQ(meter.live_bytes(), 100);
  }
  c10::GetAllocator(c10::DeviceType::CPU)->raw_deallocate(newer);
  EXPECT_EQ(AllocationMeter().live_bytes(), 0);
}

TEST(AllocationMeter, LetsATensorGrowAfterIt) {
  at::Tensor x;
  {
    const AllocationMeter meter;
    x = at::ones({4});
  }
  x.resize_({1000});
  EXPECT_EQ(x.narrow(0, 0, 4).sum().item<float>(), 4);
}

TEST(AllocationMeter, IsTheOnlyOneOfAProcess) {
  const AllocationMeter meter;
  EXPECT_THROW(AllocationMeter(), UsageError);
}

}  // namespace
}  // namespace trireme
