// What a process finds around it: limits, the network of its host, programs in PATH.

#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <fstream>

#include "tests/formats/temporary_folder.h"
#include "trireme/launch/limits.h"
#include "trireme/launch/local_network.h"
#include "trireme/launch/search_path.h"

namespace trireme {
namespace {

TEST(ProcessLimits, AreThoseOfUlimit) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit less = before;
  less.rlim_cur = 123;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &less), 0);
  EXPECT_EQ(limits_of_process().open_files, 123);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit size{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &size), 0);
  EXPECT_EQ(limits_of_process().file_size.has_value(), size.rlim_cur != RLIM_INFINITY);
}

TEST(LocalNetwork, ReachesItselfAndKnowsItsName) {
  std::array<char, 256> name{};
  ASSERT_EQ(gethostname(name.data(), name.size() - 1), 0);
  const LocalNetwork network = inspect_local_network();
  EXPECT_EQ(network.host_name, name.data());
  EXPECT_EQ(network.loopback_trouble, "");
  EXPECT_NE(network.addresses.empty(), network.name_trouble.empty());
  for (const std::string& address : network.addresses) {
    EXPECT_EQ(address.find_first_not_of("0123456789abcdef.:%ethnosl"), std::string::npos)
        << address;
  }
}

TEST(SearchPath, FindsTheFileBehindLinks) {
  const TemporaryFolder folder;
  const auto real = std::filesystem::canonical(folder.path());
  std::ofstream(real / "real-program") << "#!/bin/sh\n";
  std::filesystem::permissions(real / "real-program", std::filesystem::perms::owner_all);
  std::filesystem::create_directory(real / "bin");
  std::filesystem::create_directory(real / "bin" / "folder");
  std::filesystem::create_symlink(real / "real-program", real / "bin" / "program");
  std::ofstream(real / "bin" / "text") << "not executable\n";
  std::filesystem::permissions(real / "bin" / "text", std::filesystem::perms::owner_read);
  const std::string before = getenv("PATH");
  setenv("PATH", ("/nowhere::" + (real / "bin").string()).c_str(), 1);
  EXPECT_EQ(find_program("program"), real / "real-program");
  EXPECT_EQ(find_program("folder"), "");
  EXPECT_EQ(find_program("text"), "");
  EXPECT_EQ(find_program("no-such-program"), "");
  setenv("PATH", before.c_str(), 1);
}

}  // namespace
}  // namespace trireme
