// `trireme train -` reads the configuration from standard input.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <regex>
#include <string>

#include "tests/cli/program.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;

struct ShellEnded {
  int exit_code = 0;
  std::string err;
};

class FromStdin : public testing::Test {
 protected:
  FromStdin() {
    std::ofstream(folder_ / "run.toml") << "[data]\nformat = \"csv\"\npath = \"table.csv\"\n"
                                           "target = \"y\"\n[training]\nsteps = 6\n"
                                           "global_batch = 4\n[checkpoint]\nevery_steps = 2\n";
    std::ofstream table(folder_ / "table.csv");
    table << "x,y\n";
    for (int i = 0; i < 40; ++i) table << i << ',' << 3 * i + 1 << '\n';
  }

  ShellEnded shell(const std::string& command) const {
    const std::string line = fmt::format("cd {} && TRIREME={} && ({}) > out 2> err",
                                         folder_.path().string(), TRIREME_PROGRAM, command);
    const int status = std::system(line.c_str());
    return {WEXITSTATUS(status), read_file(folder_ / "err")};
  }

  // Without the name of the run.
  std::string config(const std::string& run) const {
    return std::regex_replace(read_file(folder_ / run / "config.toml"),
                              std::regex("directory = '[^']*'|# SHA-256 .*"), "");
  }

  TemporaryFolder folder_;
};

TEST_F(FromStdin, TrainsAndResumesAsFromAFile) {
  const ShellEnded piped =
      shell("cat run.toml | $TRIREME train - -n 2 optimizer.lr=1e-4 run.directory=piped");
  ASSERT_EQ(piped.exit_code, 0) << piped.err;
  const ShellEnded file =
      shell("$TRIREME train run.toml -n 2 optimizer.lr=1e-4 run.directory=file");
  ASSERT_EQ(file.exit_code, 0) << file.err;
  EXPECT_EQ(config("piped"), config("file"));
  EXPECT_TRUE(read_file(folder_ / "piped/model.safetensors") ==
              read_file(folder_ / "file/model.safetensors"));

  for (const std::string run : {"piped", "file"}) {
    const ShellEnded more =
        shell("cd / && $TRIREME train training.steps=9 --resume " + (folder_ / run).string());
    EXPECT_EQ(more.exit_code, 0) << more.err;
  }
  EXPECT_TRUE(read_file(folder_ / "piped/model.safetensors") ==
              read_file(folder_ / "file/model.safetensors"));
}

TEST_F(FromStdin, NamesThePlaceOfAnError) {
  const ShellEnded ended = shell("printf '[optimizer]\\nlr = \"x\"\\n' | $TRIREME train -");
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_THAT(ended.err, HasSubstr("stdin:2:6: optimizer.lr must be a number, got \"x\""));
}

TEST_F(FromStdin, SaysThatNothingCame) {
  const ShellEnded ended = shell("$TRIREME train - < /dev/null");
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_THAT(ended.err, HasSubstr("no configuration"));
}

TEST_F(FromStdin, IsRefusedOnSeveralRanksOfAnotherLauncher) {
  const ShellEnded ended = shell("$TRIREME run -n 2 $TRIREME train - < run.toml");
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_THAT(ended.err, HasSubstr("name a file that all of them see"));
}

TEST_F(FromStdin, IsMeasuredByBenchTrain) {
  const ShellEnded ended = shell("$TRIREME bench train - -n 2 --steps 4 < run.toml");
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(read_file(folder_ / "out"), HasSubstr("linear, 2 parameters, global batch 4"));
}

}  // namespace
}  // namespace trireme::test
