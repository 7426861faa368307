#include "trireme/launch/cgroups.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/formats/temporary_folder.h"

namespace trireme {
namespace {

/// Control groups as the kernel shows them, in a folder.
class Cgroups : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    const auto path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << '\n';
  }
  CgroupLimits limits() const {
    return limits_of_cgroups(folder_.path() / "cgroup", folder_.path() / "fs");
  }

  TemporaryFolder folder_;
};

TEST(CgroupQuota, IsReadInCores) {
  EXPECT_EQ(cores_of_quota("max 100000"), 0);
  EXPECT_EQ(cores_of_quota("400000 100000"), 4);
  EXPECT_EQ(cores_of_quota("150000 100000"), 1);
  EXPECT_EQ(cores_of_quota("50000 100000"), 1);
  EXPECT_EQ(cores_of_quota("-1 100000"), 0) << "version 1 says no limit like this";
  EXPECT_EQ(cores_of_quota(" "), 0);
  EXPECT_EQ(cores_of_quota("100000 0"), 0);
}

TEST_F(Cgroups, OfVersion2LimitByTheSmallestOnTheWayUp) {
  write("cgroup", "0::/batch/job_7/step_0");
  write("fs/batch/job_7/step_0/cpu.max", "max 100000");
  write("fs/batch/job_7/cpu.max", "300000 100000");
  write("fs/batch/cpu.max", "800000 100000");
  write("fs/batch/job_7/step_0/memory.max", "max");
  write("fs/batch/memory.max", "4294967296");
  write("fs/batch/job_7/step_0/pids.max", "500");
  EXPECT_EQ(limits().cores, 3);
  EXPECT_EQ(limits().memory_bytes, std::int64_t{4} << 30);
  EXPECT_EQ(limits().processes, 500);
}

TEST_F(Cgroups, OfVersion1LimitEachByItsController) {
  write("cgroup",
        "9:name=systemd:/\n8:pids:/docker/f00\n4:memory:/docker/f00\n2:cpu,cpuacct:/docker/f00\n"
        "1:cpuset:/x\n0::/");
  write("fs/cpu/docker/f00/cpu.cfs_quota_us", "250000");
  write("fs/cpu/docker/f00/cpu.cfs_period_us", "100000");
  write("fs/cpu/cpu.cfs_quota_us", "-1");
  write("fs/cpu/cpu.cfs_period_us", "100000");
  write("fs/memory/docker/f00/memory.limit_in_bytes", "9223372036854771712");
  write("fs/memory/memory.limit_in_bytes", "1000000");
  write("fs/pids/docker/f00/pids.max", "max");
  EXPECT_EQ(limits().cores, 2);
  EXPECT_EQ(limits().memory_bytes, 1000000);
  EXPECT_EQ(limits().processes, 0);
}

TEST_F(Cgroups, OfAContainerThatSeesItsOwnOnlyLimitByTheRoot) {
  write("cgroup", "0::/../../unseen");
  write("fs/cpu.max", "100000 100000");
  EXPECT_EQ(limits().cores, 1);
}

TEST_F(Cgroups, ThatAreNotThereLimitNothing) {
  EXPECT_EQ(limits().cores, 0);
  EXPECT_EQ(limits().memory_bytes, 0);
  write("cgroup", "no groups at all\n1::");
  EXPECT_EQ(limits().processes, 0);
}

}  // namespace
}  // namespace trireme
