#include "trireme/comm/message/agreed_error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "trireme/comm/operation.h"

namespace trireme::message {
namespace {

TEST(AgreedError, OfAnotherRankCannotControlATerminal) {
  const AgreedError sent{.text = "rank 1 \x1b[31mis lost\n", .failed_rank = 1};
  const AgreedError received = agreed_error_of(frame_of(sent));
  EXPECT_EQ(received.text, "rank 1 \\x1b[31mis lost\\x0a");
  EXPECT_EQ(received.failed_rank, 1);
}

TEST(CallSite, OfAnotherRankIsReadNoFurtherThanItsEnd) {
  CallSite site;
  site.line = 7;
  std::fill_n(site.file, sizeof site.file, 'x');  // without the zero at the end
  site.file[0] = '\x1b';
  EXPECT_EQ(describe(Call{}, site), "barrier() at \\x1b" + std::string(43, 'x') + ":7");
}

}  // namespace
}  // namespace trireme::message
