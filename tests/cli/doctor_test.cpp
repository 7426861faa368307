// `trireme doctor`: what it says of folders, limits and launchers agrees with other programs.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "trireme/base/files.h"
#include "trireme/cli/folder_check.h"
#include "trireme/cli/launchers.h"

namespace trireme::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int kData = 3;

/// Runs a command of the shell, in which $TRIREME is the program. Returns its stdout.
std::string shell(const TemporaryFolder& folder, const std::string& command, int exit_code = 0) {
  const std::string line = fmt::format("cd {} && TRIREME={} && ({}) > shell-out 2> shell-err",
                                       folder.path().string(), TRIREME_PROGRAM, command);
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), exit_code) << read_file(folder / "shell-err");
  return read_file(folder / "shell-out");
}

TEST(Doctor, TriesTheFileSystemOfAFolder) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "runs");
  const Ended ended = run_program(folder.path(), {"doctor", "runs", "--json"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  const json check = json::parse(ended.out)["folder"];
  EXPECT_EQ(check["trouble"], "");
  EXPECT_EQ(check["has_locks"], true);
  EXPECT_GE(check["sync_seconds"], 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "runs"));
  EXPECT_EQ(check["file_system"].get<std::string>() + "\n",
            shell(folder, "df --output=fstype runs | tail -1"));
  const double free = std::stod(shell(folder, "df --output=avail -B1 runs | tail -1"));
  EXPECT_NEAR(check["free_bytes"].get<double>(), free, 0.1 * free + (1 << 24));
  const std::string text = run_program(folder.path(), {"doctor", "runs"}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("\nfolder "), HasSubstr("locks work")));
}

TEST(Doctor, SaysWhyNoRunCanWriteInAFolder) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "file", "");
  for (const auto& [path, why] : {std::pair("nowhere", "no such folder"),
                                  std::pair("file", "no such folder"), std::pair("/proc", "")}) {
    const Ended ended = run_program(folder.path(), {"doctor", path, "--json"});
    EXPECT_EQ(ended.exit_code, kData) << path;
    const json report = json::parse(ended.out);
    EXPECT_THAT(report["folder"]["trouble"].get<std::string>(), HasSubstr(why));
    EXPECT_NE(report["folder"]["trouble"], "") << path;
    EXPECT_THAT(report["warnings"].get<std::vector<std::string>>(), Contains(HasSubstr(path)));
  }
}

TEST(Doctor, ShowsTheLimitsOfTheShell) {
  const TemporaryFolder folder;
  const json report =
      json::parse(shell(folder, "ulimit -n 500; ulimit -f 2048; \"$TRIREME\" doctor --json"));
  EXPECT_EQ(report["limits"]["open_files"], 500);
  const auto of_file = std::stoll(shell(folder, "ulimit -f 2048; ulimit -f"));
  // Blocks of 512 bytes in dash, of 1024 in bash.
  EXPECT_THAT(report["limits"]["file_size"].get<std::int64_t>() / of_file,
              testing::AnyOf(512, 1024));
  EXPECT_THAT(report["warnings"].get<std::vector<std::string>>(),
              AllOf(Contains(StartsWith("at most 500 open files")),
                    Contains(StartsWith("ulimit -f: no model, checkpoint or log"))));
}

TEST(Doctor, NamesTheLaunchersInPath) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "bin");
  write_file_atomically(folder / "bin/srun", "#!/bin/sh\n");
  std::filesystem::permissions(folder / "bin/srun", std::filesystem::perms::owner_all);
  const json report = json::parse(shell(folder, "PATH=$PWD/bin \"$TRIREME\" doctor --json"));
  EXPECT_EQ(report["launchers"]["srun"], std::filesystem::canonical(folder / "bin/srun").string());
  EXPECT_EQ(report["launchers"]["torchrun"], "");
  EXPECT_EQ(report["launchers"]["mpirun"], "");
  EXPECT_THAT(report["mpi_advice"].get<std::string>(), HasSubstr("apt-get install "));
}

TEST(Doctor, AnswersOnceForAllRanks) {
  const TemporaryFolder folder;
  const std::string ranks = shell(folder, "\"$TRIREME\" run -n 3 \"$TRIREME\" doctor");
  EXPECT_EQ(ranks.find("processor "), ranks.rfind("processor ")) << ranks;
  EXPECT_THAT(ranks, AllOf(StartsWith("processor "), HasSubstr("ranks        3 on this host\n"),
                           HasSubstr(" a rank (OMP_NUM_THREADS = ")));
}

TEST(Doctor, NamesAVariableThatIsNoNumber) {
  const TemporaryFolder folder;
  const json report = json::parse(shell(folder, "OMP_NUM_THREADS=all \"$TRIREME\" doctor --json"));
  EXPECT_THAT(report["warnings"].get<std::vector<std::string>>(),
              Contains(HasSubstr("OMP_NUM_THREADS must be a number of threads")));
}

TEST(FileSystem, IsThatOfTheInnermostMount) {
  const std::string mounts =
      "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
      "30 21 0:25 / /data rw - nfs4 server:/data rw,vers=4.2\n"
      "31 30 0:26 / /data/my\\040runs rw,nosuid shared:7 master:2 - fuse.sshfs host: rw\n"
      "32 21 0:27 / /data-2 rw - xfs /dev/vdb rw\n"
      "a line that is none\n";
  EXPECT_EQ(cli::file_system_of("/home/x", mounts), "ext4");
  EXPECT_EQ(cli::file_system_of("/data", mounts), "nfs4");
  EXPECT_EQ(cli::file_system_of("/data/run", mounts), "nfs4");
  EXPECT_EQ(cli::file_system_of("/data/my runs/1", mounts), "fuse.sshfs");
  EXPECT_EQ(cli::file_system_of("/data-2/run", mounts), "xfs");
  EXPECT_EQ(cli::file_system_of("/data", ""), "");
  EXPECT_EQ(cli::file_system_of("/data", mounts + "40 21 0:30 / /data rw - tmpfs none rw\n"),
            "tmpfs")
      << "mounted over it";
}

TEST(AdviceOnMpi, SaysWhatStartsTheRanks) {
  const auto with = [](const char* mpirun) {
    return std::vector<cli::Launcher>{{"mpirun", mpirun}};
  };
  EXPECT_EQ(cli::advice_on_mpi("Open MPI 4.1.4", with("/usr/bin/orterun")), "");
  EXPECT_EQ(cli::advice_on_mpi("Open MPI 5.0.7", with("/usr/bin/prterun")), "");
  EXPECT_EQ(cli::advice_on_mpi("MPICH 4.0.2", with("/usr/bin/mpiexec.hydra")), "");
  EXPECT_EQ(cli::advice_on_mpi("MPICH 4.0.2", with("/opt/bin/mpirun")), "");
  EXPECT_THAT(cli::advice_on_mpi("Open MPI 4.1.4", with("/usr/bin/mpiexec.hydra")),
              AllOf(StartsWith("mpirun is that of MPICH"), HasSubstr("mpirun.openmpi")));
  EXPECT_THAT(cli::advice_on_mpi("MPICH 4.0.2", with("/usr/bin/orterun")),
              HasSubstr("-DMPI_CXX_COMPILER=mpicxx.openmpi"));
  EXPECT_THAT(cli::advice_on_mpi("MPICH 4.0.2", with("")), HasSubstr("apt-get install mpich"));
  EXPECT_THAT(cli::advice_on_mpi("", with("/usr/bin/orterun")),
              HasSubstr("this trireme was built without MPI"));
}

}  // namespace
}  // namespace trireme::test
