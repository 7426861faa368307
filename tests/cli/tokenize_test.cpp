// `trireme tokenize` from the command line to the file that training reads.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "trireme/base/files.h"
#include "trireme/formats/token_file.h"
#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class TokenizeCommand : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
  }

  Ended run(std::vector<std::string> words) const {
    words.insert(words.begin(), "tokenize");
    return run_program(folder_.path(), words);
  }

  TokenFile file(const std::string& name) const { return TokenFile(folder_ / name); }

  TemporaryFolder folder_;
};

TEST_F(TokenizeCommand, WritesTrainingAndValidationText) {
  write("a.txt", "In the beginning\nGod created\n");
  write("b.txt", "the heaven\nand the earth.\n");
  const Ended ended =
      run({"a.txt", "b.txt", "-o", "out.tokens", "--tokenizer", "characters", "--holdout", "0.5"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(ended.err, IsEmpty());
  EXPECT_THAT(ended.out, HasSubstr("out.tokens: 30 tokens of 1 document, 29 bytes of text"));
  EXPECT_THAT(ended.out, HasSubstr("out.validation.tokens: 27 tokens of 1 document"));
  EXPECT_EQ(file("out.tokens").tokenizer_digest(),
            file("out.validation.tokens").tokenizer_digest());
}

TEST_F(TokenizeCommand, PrintsJson) {
  write("q.jsonl", "{\"ask\":\"1+1=\",\"say\":\"2\"}\n{\"ask\":\"\",\"say\":\"\"}\n");
  const Ended ended = run({"q.jsonl", "-o", "q.tokens", "--tokenizer", "bytes", "--documents",
                           "jsonl", "--field", "say", "--prompt-field", "ask", "--json"});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  const auto summary = nlohmann::json::parse(ended.out);
  EXPECT_EQ(summary["vocabulary"], 257);
  EXPECT_EQ(summary["empty_documents"], 1);
  EXPECT_EQ(summary["files"][0]["tokens"], 6);
  EXPECT_EQ(summary["tokenizer_sha256"], file("q.tokens").tokenizer_digest());
  EXPECT_EQ(file("q.tokens").prompt_length(0), 4);
}

TEST_F(TokenizeCommand, TakesATokenizerFile) {
  write("t.json",
        R"({"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"decoder":{"type":"Fuse"}})");
  write("x", "abba");
  ASSERT_EQ(run({"x", "-o", "x.tokens", "--tokenizer", "t.json"}).exit_code, 0);
  const TokenFile tokens = file("x.tokens");
  EXPECT_EQ(tokens.tokens(), 3);
  EXPECT_EQ(
      tokenizer_from_json(tokens.tokenizer_json())->decode(std::vector<std::int32_t>{2, 1, 0}),
      "abba");
}

TEST_F(TokenizeCommand, ReadsStandardInput) {
  for (const std::string more : {"", " --holdout 0.5", " --tokenizer characters"}) {
    const std::string line = "cd " + folder_.path().string() +
                             " && printf 'one\\ntwo\\n' | " TRIREME_PROGRAM
                             " tokenize - -o piped.tokens --overwrite --documents line" +
                             (more.ends_with("characters") ? more : more + " --tokenizer bytes") +
                             " > out 2> err";
    ASSERT_EQ(std::system(line.c_str()), 0) << read_file(folder_ / "err");
    EXPECT_EQ(file("piped.tokens").tokens(), more.find("holdout") != more.npos ? 4 : 8);
  }
}

TEST_F(TokenizeCommand, ReplacesNoFileUnasked) {
  write("x", "text");
  write("out", "precious");
  const Ended ended = run({"x", "-o", "out", "--tokenizer", "bytes"});
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_THAT(ended.err, HasSubstr("out exists already; write elsewhere, or give --overwrite"));
  EXPECT_EQ(read_file(folder_ / "out"), "precious");
  EXPECT_EQ(run({"x", "-o", "out", "--tokenizer", "bytes", "--overwrite"}).exit_code, 0);
  EXPECT_EQ(file("out").tokens(), 5);
}

TEST_F(TokenizeCommand, LeavesNothingBehindAnError) {
  write("x", "caf\xE9");
  struct Refused {
    std::vector<std::string> words;
    int exit_code;
    std::string message;
  };
  const std::vector<Refused> all = {
      {{"x", "-o", "out", "--tokenizer", "bytes"},
       3,
       "x: text must be UTF-8, got the byte 0xE9 at byte 4"},
      {{"none", "-o", "out", "--tokenizer", "bytes"}, 3, "none: cannot open: No such file"},
      {{"x", "-o", "out", "--tokenizer", "none.json"}, 3, "none.json: cannot open: No such file"},
      {{"x", "-o", "out", "--tokenizer", "x"},
       3,
       "x: not a tokenizer: it is empty or not JSON at all"},
      {{"x", "-o", "no/out", "--tokenizer", "bytes"}, 3, "no/out: cannot create: No such file"},
      {{"-", "-", "-o", "out", "--tokenizer", "bytes"}, 2, "can be given once"},
      {{"x", "-o", "out", "--tokenizer", "bytes", "--documents", "page"}, 2, "--documents"},
      {{"x", "-o", "out", "--tokenizer", "bytes", "--holdout", "1.5"}, 2, "--holdout"}};
  for (const Refused& refused : all) {
    const Ended ended = run(refused.words);
    EXPECT_EQ(ended.exit_code, refused.exit_code) << refused.message;
    EXPECT_THAT(ended.err, HasSubstr(refused.message));
    EXPECT_THAT(ended.out, IsEmpty());
  }
  EXPECT_THAT(real_files().names_in(folder_.path()),
              testing::Not(testing::Contains(testing::StartsWith("out"))));
}

}  // namespace
}  // namespace trireme::test
