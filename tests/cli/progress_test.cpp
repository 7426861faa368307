#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trireme/cli/failure_report.h"
#include "trireme/cli/progress_line.h"
#include "trireme/cli/terminal.h"

namespace trireme::cli {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

ProgressNumbers some_numbers() {
  return {.step = 567,
          .steps = 30000,
          .epoch = 4.02,
          .loss = 0.0124,
          .lr = 0.01,
          .gradient_norm = 0.617,
          .samples_per_second = 161210,
          .seconds_left = 125,
          .data_share = 0.03,
          .compute_share = 0.9,
          .communication_share = 0.07,
          .memory_bytes = 85 << 20};
}

TEST(ProgressLine, ShowsAllWhereThereIsRoom) {
  EXPECT_EQ(live_progress_line(some_numbers(), 200),
            "  2% [>               ]  step 567/30,000  epoch 4.02  loss 0.0124  lr 0.01  "
            "|g| 0.617  161,210 samples/s  data 3% compute 90% comm 7%  85 MiB  2:05 left");
}

TEST(ProgressLine, LeavesOutTheLeastImportantInANarrowWindow) {
  const std::string line = live_progress_line(some_numbers(), 60);
  EXPECT_THAT(line, HasSubstr("step 567/30,000"));
  EXPECT_THAT(line, HasSubstr("loss 0.0124"));
  EXPECT_THAT(line, HasSubstr("2:05 left"));
  EXPECT_THAT(line, Not(HasSubstr("MiB")));
  EXPECT_THAT(line, Not(HasSubstr("comm")));
}

TEST(ProgressLine, IsNeverWiderThanTheWindow) {
  for (int columns = 1; columns < 200; ++columns) {
    EXPECT_LE(static_cast<int>(live_progress_line(some_numbers(), columns).size()), columns);
  }
}

TEST(ProgressLine, ShowsNoGradientOrSharesBeforeTheyAreKnown) {
  const std::string line = plain_progress_line({.step = 1, .steps = 10});
  EXPECT_THAT(line, StartsWith("step 1/10"));
  EXPECT_THAT(line, Not(HasSubstr("|g|")));
  EXPECT_THAT(line, Not(HasSubstr("data")));
}

TEST(FailureBox, NamesRankCauseLogAndWayOn) {
  ExitReport report;
  report.failed_rank = 1;
  report.first_rank = 2;  // of the second host
  report.world_size = 4;
  report.explanation = "killed by SIGSEGV: invalid memory access";
  report.last_lines = {"step 7"};
  report.log = "out/logs/rank-1.log";
  const std::string box = failure_report(report, "trireme train --resume out", Terminal{});
  EXPECT_THAT(box, HasSubstr("│ rank 3 of 4: killed by SIGSEGV: invalid memory access\n"));
  EXPECT_THAT(box, HasSubstr("│ its last lines:\n│   step 7\n"));
  EXPECT_THAT(box, HasSubstr("│ log: out/logs/rank-1.log\n"));
  EXPECT_THAT(box, HasSubstr("│ resume with: trireme train --resume out\n"));
  EXPECT_THAT(box, Not(HasSubstr("\x1b")));
}

TEST(FailureBox, ShowsOnlyTheLastOfManyLines) {
  ExitReport report;
  report.failed_rank = 0;
  report.world_size = 1;
  for (int i = 0; i < 20; ++i) report.last_lines.push_back("line " + std::to_string(i));
  const std::string box = failure_report(report, "", Terminal{.colors = true});
  EXPECT_THAT(box, Not(HasSubstr("line 11")));
  EXPECT_THAT(box, HasSubstr("line 12"));
  EXPECT_THAT(box, Not(HasSubstr("resume")));
  EXPECT_THAT(box, StartsWith("\x1b[31m"));
}

TEST(Text, ReadsWell) {
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(duration(45.2), "45 s");
  EXPECT_EQ(duration(59.7), "1:00");
  EXPECT_EQ(duration(3723), "1:02:03");
  EXPECT_EQ(memory_size(1.25 * (1 << 30)), "1.2 GiB");
  EXPECT_EQ(clipped("│ab", 2), "│a");
}

}  // namespace
}  // namespace trireme::cli
