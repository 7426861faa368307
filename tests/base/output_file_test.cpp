#include "trireme/base/output_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

namespace trireme {
namespace {

TEST(OutputFile, LosesNoWriteOfSeveralProcesses) {
  constexpr int kProcesses = 4, kLines = 20'000;
  constexpr char kLine[] = "0123456789\n";
  constexpr std::size_t kBytes = sizeof kLine - 1;
  const FileDescriptor file = open_output_file("test");
  std::vector<pid_t> processes;
  for (int process = 0; process < kProcesses; ++process) {
    processes.push_back(fork());
    if (processes.back() != 0) continue;
    for (int line = 0; line < kLines; ++line) {
      if (write(file.fd(), kLine, kBytes) != static_cast<ssize_t>(kBytes)) _exit(1);
    }
    _exit(0);
  }
  for (const pid_t process : processes) {
    int status = 0;
    waitpid(process, &status, 0);
    EXPECT_EQ(status, 0);
  }
  struct stat status {};
  fstat(file.fd(), &status);
  EXPECT_EQ(status.st_size, static_cast<off_t>(kProcesses * kLines * kBytes));
}

}  // namespace
}  // namespace trireme
