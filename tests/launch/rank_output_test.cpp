#include "trireme/launch/rank_output.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <memory>
#include <numeric>

#include "tests/base/memory_files.h"

namespace trireme {
namespace {

using testing::ElementsAre;

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;

  Pipe() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) std::abort();
    read_end = FileDescriptor(fds[0]);
    write_end = FileDescriptor(fds[1]);
  }

  void write(const std::string& text) const {
    ASSERT_EQ(::write(write_end.fd(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  // All that was written; closes the end to write to.
  std::string read_all() {
    write_end.close();
    std::string text;
    char bytes[4096];
    for (ssize_t count; (count = ::read(read_end.fd(), bytes, sizeof bytes)) > 0;) {
      text.append(bytes, static_cast<std::size_t>(count));
    }
    return text;
  }
};

// A rank's pipe and what the launcher made of it.
struct Passed {
  Pipe rank;
  Pipe launcher;
  Outlet outlet{launcher.write_end.fd()};
  RankOutput output;

  Passed(RankOutput::Passing passing, const std::string& prefix)
      : output(std::move(rank.read_end), outlet, passing, prefix) {}

  std::string shown() {
    outlet.write_all();
    return launcher.read_all();
  }
};

TEST(RankOutput, PutsThePrefixBeforeWholeLinesOnly) {
  Passed passed(RankOutput::Passing::kLines, "[rank 1] ");
  passed.rank.write("on");
  passed.output.read_some();
  EXPECT_FALSE(passed.outlet.is_waiting());
  passed.rank.write("e\ntwo\n\nthr");
  passed.output.read_some();
  passed.rank.write("ee");
  passed.output.finish();
  EXPECT_EQ(passed.shown(), "[rank 1] one\n[rank 1] two\n[rank 1] \n[rank 1] three\n");
}

TEST(RankOutput, PassesBytesOnAtOnceAndUnchanged) {
  Passed passed(RankOutput::Passing::kBytes, "");
  passed.rank.write("\rstep 1");
  passed.output.read_some();
  EXPECT_TRUE(passed.outlet.is_waiting());
  passed.rank.write("\rstep 2");
  passed.output.finish();
  EXPECT_EQ(passed.shown(), "\rstep 1\rstep 2");
}

TEST(RankOutput, APrefixedLineDoesNotContinueAProgressLine) {
  Passed first(RankOutput::Passing::kBytes, "");
  Pipe other;
  RankOutput second(std::move(other.read_end), first.outlet, RankOutput::Passing::kLines, "[1] ");
  first.rank.write("\rstep 1");
  first.output.read_some();
  other.write("hello\n");
  second.read_some();
  EXPECT_EQ(first.shown(), "\rstep 1\n[1] hello\n");
}

TEST(RankOutput, KeepsTheLastTwentyLines) {
  Passed passed(RankOutput::Passing::kLines, "");
  for (int i = 0; i < 50; ++i) passed.rank.write("line " + std::to_string(i) + "\n");
  passed.output.finish();
  const auto lines = passed.output.last_lines();
  ASSERT_EQ(lines.size(), RankOutput::kKeptLines);
  EXPECT_EQ(lines.front(), "line 30");
  EXPECT_EQ(lines.back(), "line 49");
}

TEST(RankOutput, OfAProgressLineKeepsWhatWasLastSeen) {
  Passed passed(RankOutput::Passing::kBytes, "");
  passed.rank.write("\rstep 1\rstep 2\r\nerror");
  passed.output.finish();
  EXPECT_THAT(passed.output.last_lines(), ElementsAre("step 2", "error"));
}

TEST(RankOutput, CutsALineThatNeverEnds) {
  Passed passed(RankOutput::Passing::kLines, "");
  passed.rank.write(std::string(RankOutput::kMaxLineBytes + 5, 'x'));
  passed.output.finish();
  EXPECT_EQ(passed.shown(),
            std::string(RankOutput::kMaxLineBytes, 'x') + "\n" + std::string(5, 'x') + "\n");
}

TEST(RankOutput, ReadsEverythingThatADeadRankLeft) {
  Passed passed(RankOutput::Passing::kLines, "");
  std::string text;
  for (int i = 0; text.size() < 60'000; ++i) text += "line " + std::to_string(i) + "\n";
  passed.rank.write(text);
  // A process that outlives the rank holds its pipe open: there is no end of the stream.
  passed.output.finish();
  EXPECT_FALSE(passed.output.wants_to_read());
  passed.outlet.write_all();
  EXPECT_EQ(passed.launcher.read_all(), text);
}

TEST(Outlet, PausesItsSourcesWhileTheReaderDoes) {
  Passed passed(RankOutput::Passing::kLines, "");
  EXPECT_TRUE(passed.output.wants_to_read());
  passed.outlet.append(std::string(2 << 20, 'x'));
  EXPECT_FALSE(passed.output.wants_to_read());
}

TEST(Outlet, GoesOnOnTheFallbackWhenTheDiskIsFull) {
  Pipe shown;
  Outlet fallback(shown.write_end.fd());
  test::MemoryFiles files;
  files.limit_space(0);
  Outlet log(files.open_to_append("rank-1.log"), fallback);
  log.append("one\n");
  log.write_all();
  log.append("two\n");
  fallback.write_all();
  EXPECT_EQ(
      shown.read_all(),
      "rank-1.log: cannot write: No space left on device; its output goes on here\none\ntwo\n");
}

}  // namespace
}  // namespace trireme
