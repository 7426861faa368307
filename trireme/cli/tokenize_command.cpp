#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/clock.h"
#include "trireme/base/error.h"
#include "trireme/base/sha256.h"
#include "trireme/cli/commands.h"
#include "trireme/cli/terminal.h"
#include "trireme/formats/gzip.h"
#include "trireme/formats/tokenize_text.h"
#include "trireme/formats/whole_text.h"

namespace trireme::cli {

namespace {

namespace fs = std::filesystem;

struct TokenizeArguments {
  std::vector<std::string> texts;
  std::string output;
  std::string validation_output;
  std::string tokenizer;
  TokenizeOptions options;
  bool overwrite = false;
  bool json = false;
};

// Standard input comes once. What reads the text more than once reads it from memory.
TextSource standard_input(bool more_than_once) {
  auto memory = std::make_shared<std::optional<std::string>>();
  return {"stdin", [memory, more_than_once]() -> std::unique_ptr<ByteSource> {
            if (!more_than_once) return maybe_inflate(read_stream(STDIN_FILENO, "stdin"), "stdin");
            if (!*memory) *memory = whole_text(*read_stream(STDIN_FILENO, "stdin"), "stdin");
            return maybe_inflate(bytes_of(**memory), "stdin");
          }};
}

std::vector<TextSource> sources_of(const TokenizeArguments& arguments) {
  if (std::ranges::count(arguments.texts, "-") > 1) {
    throw UsageError("tokenize: standard input (-) can be given once");
  }
  const bool more_than_once = arguments.tokenizer == "characters" || arguments.options.holdout > 0;
  std::vector<TextSource> sources;
  for (const std::string& text : arguments.texts) {
    sources.push_back(text == "-" ? standard_input(more_than_once) : text_file(text));
  }
  return sources;
}

// "a/b.tokens" has its validation text in "a/b.validation.tokens".
fs::path validation_path(const TokenizeArguments& arguments) {
  if (!arguments.validation_output.empty()) return arguments.validation_output;
  const fs::path output = arguments.output;
  return output.parent_path() /
         (output.stem().string() + ".validation" + output.extension().string());
}

void require_free(const fs::path& path, bool overwrite) {
  std::error_code error;
  if (overwrite || !fs::exists(path, error)) return;
  throw UsageError(fmt::format("tokenize: {} exists already; write elsewhere, or give --overwrite",
                               path.string()));
}

// Shows on a terminal what was done so far, five times a second.
class LiveLine {
 public:
  LiveLine() : terminal_(Terminal::of(STDERR_FILENO)) {}
  ~LiveLine() {
    if (is_shown_) terminal_.write("\r\x1b[K");
  }
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

  void show(std::int64_t text_bytes, std::int64_t tokens) {
    if (!terminal_.is_terminal) return;
    const Clock::Time now = Clock::system().now();
    if (now - shown_at_ < std::chrono::milliseconds(200)) return;
    shown_at_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    const std::string line =
        fmt::format("{} of text  {}  {}/s", memory_size(static_cast<double>(text_bytes)),
                    with_commas(tokens, "token"),
                    memory_size(static_cast<double>(text_bytes) / std::max(seconds, 1e-3)));
    terminal_.write("\r\x1b[K" + clipped(line, terminal_.columns() - 1));
    is_shown_ = true;
  }

 private:
  Terminal terminal_;
  Clock::Time begin_ = Clock::system().now();
  Clock::Time shown_at_ = begin_;
  bool is_shown_ = false;
};

struct Written {
  fs::path path;
  std::int64_t documents = 0;
  std::int64_t tokens = 0;
  std::int64_t text_bytes = 0;
};

Written commit(TokenWriter& writer, const fs::path& path) {
  writer.commit();
  return {path, writer.documents(), writer.tokens(), writer.text_bytes()};
}

void print_json(const std::vector<Written>& files, const Tokenizer& tokenizer, std::int64_t empty) {
  auto list = nlohmann::ordered_json::array();
  for (const Written& file : files) {
    list.push_back({{"path", file.path.string()},
                    {"documents", file.documents},
                    {"tokens", file.tokens},
                    {"text_bytes", file.text_bytes}});
  }
  std::cout << nlohmann::ordered_json{{"tokenizer", tokenizer.name()},
                                      {"vocabulary", tokenizer.vocabulary()},
                                      {"tokenizer_sha256", sha256(tokenizer.to_json())},
                                      {"empty_documents", empty},
                                      {"files", list}}
                   .dump()
            << '\n';
}

void print_summary(const std::vector<Written>& files, const Tokenizer& tokenizer,
                   std::int64_t empty) {
  for (const Written& file : files) {
    std::cout << fmt::format(
        "{}: {} of {}, {} of text, {:.2f} bytes a token\n", file.path.string(),
        with_commas(file.tokens, "token"), with_commas(file.documents, "document"),
        with_commas(file.text_bytes, "byte"),
        static_cast<double>(file.text_bytes) / static_cast<double>(file.tokens));
  }
  std::cout << fmt::format("tokenizer: {}, vocabulary {}\n", tokenizer.name(),
                           with_commas(tokenizer.vocabulary()));
  if (empty > 0) {
    std::cout << fmt::format("left out: {} without text\n", with_commas(empty, "document"));
  }
}

void tokenize_files(const TokenizeArguments& arguments) {
  const std::vector<TextSource> sources = sources_of(arguments);
  TokenizeOptions options = arguments.options;
  const bool holds_out = options.holdout > 0;
  const fs::path validation = validation_path(arguments);
  require_free(arguments.output, arguments.overwrite);
  if (holds_out) require_free(validation, arguments.overwrite);

  const auto tokenizer =
      choose_tokenizer(arguments.tokenizer, sources, arguments.options.documents);
  TokenWriter training(arguments.output, *tokenizer);
  std::optional<TokenWriter> held_out;
  if (holds_out) held_out.emplace(validation, *tokenizer);
  TokenizeCounts counts;
  {
    LiveLine line;
    options.progress = [&](std::int64_t bytes, std::int64_t tokens) { line.show(bytes, tokens); };
    counts = tokenize(sources, *tokenizer, options, training, held_out ? &*held_out : nullptr);
  }
  std::vector<Written> written = {commit(training, arguments.output)};
  if (held_out) written.push_back(commit(*held_out, validation));
  if (arguments.json) {
    print_json(written, *tokenizer, counts.empty);
  } else {
    print_summary(written, *tokenizer, counts.empty);
  }
}

void add_document_options(CLI::App& command, DocumentOptions& documents) {
  const std::map<std::string, DocumentUnit> units = {{"file", DocumentUnit::kFile},
                                                     {"line", DocumentUnit::kLine},
                                                     {"jsonl", DocumentUnit::kJsonLine}};
  const std::map<std::string, NotUtf8> not_utf8 = {{"error", NotUtf8::kError},
                                                   {"replace", NotUtf8::kReplace}};
  command.add_option("--documents", documents.unit, "one a file, a line, or a JSON object a line")
      ->transform(CLI::CheckedTransformer(units).description("{file,line,jsonl}"))
      ->default_str("file");
  command.add_option("--field", documents.field, "of JSON objects: the text")
      ->capture_default_str();
  command.add_option("--prompt-field", documents.prompt_field,
                     "of JSON objects: what stands before the text and is not trained on");
  command.add_option("--not-utf8", documents.not_utf8, "what to do with bytes that are not UTF-8")
      ->transform(CLI::CheckedTransformer(not_utf8).description("{error,replace}"))
      ->default_str("error");
}

}  // namespace

void add_tokenize(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App* command =
      app.add_subcommand("tokenize", "Make token files of texts, to train language models on");
  command->add_option("TEXT", arguments->texts, "files, gzip or not; -: standard input")
      ->required();
  command->add_option("-o,--output", arguments->output, "token file to write")->required();
  command
      ->add_option("--tokenizer", arguments->tokenizer,
                   "characters, bytes, or a file: Hugging Face's tokenizer.json, an encoder of "
                   "the npm package tiktoken")
      ->required();
  add_document_options(*command, arguments->options.documents);
  const std::map<std::string, SpecialTokens> special = {{"recognize", SpecialTokens::kRecognized},
                                                        {"text", SpecialTokens::kAsText}};
  command
      ->add_option("--special-tokens", arguments->options.special,
                   "what <|endoftext|> and its like are that are written out in a text")
      ->transform(CLI::CheckedTransformer(special).description("{recognize,text}"))
      ->default_str("recognize");
  command
      ->add_option("--holdout", arguments->options.holdout,
                   "share of the text that goes to a second file, for validation")
      ->check(CLI::Range(0.0, 0.9));
  command->add_option("--holdout-output", arguments->validation_output,
                      "its name; OUTPUT.validation.tokens by default");
  command->add_flag("--overwrite", arguments->overwrite, "replace files that exist");
  command->add_flag("--json", arguments->json, "as JSON");
  command->footer(
      "    trireme tokenize books/*.txt -o books.tokens --tokenizer characters --holdout 0.1");
  command->callback([arguments, &exit_code] {
    tokenize_files(*arguments);
    exit_code = 0;
  });
}

}  // namespace trireme::cli
