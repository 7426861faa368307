#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/cli/commands.h"
#include "trireme/model/gpt/generate.h"
#include "trireme/train/language_model.h"

namespace trireme::cli {

namespace {

struct Arguments {
  std::string run;
  std::string weights;
  std::vector<std::string> prompts;
  std::string prompt_file;
  std::vector<std::string> stop;
  GenerateOptions options;
  bool json = false;
};

std::vector<std::string> prompts_of(const Arguments& arguments) {
  if (arguments.prompt_file.empty()) {
    return arguments.prompts.empty() ? std::vector<std::string>{""} : arguments.prompts;
  }
  if (!arguments.prompts.empty()) {
    throw UsageError("generate: prompts on the command line and --prompt-file exclude each other");
  }
  if (arguments.prompt_file != "-") return {read_file(arguments.prompt_file)};
  return {std::string(std::istreambuf_iterator<char>(std::cin), {})};
}

void write_json(const std::string& prompt, const LanguageModel::Text& text) {
  const nlohmann::ordered_json object = {
      {"prompt", prompt}, {"text", text.text}, {"tokens", text.tokens}};
  std::cout << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

void generate_texts(const Arguments& arguments) {
  LanguageModel model(arguments.run, arguments.weights);
  GenerateOptions options = arguments.options;
  for (const std::string& token : arguments.stop) options.stop.push_back(model.token_of(token));
  for (const std::string& prompt : prompts_of(arguments)) {
    if (arguments.json) {
      write_json(prompt, model.generate(prompt, options));
      continue;
    }
    // Not before the prompt is known to be good.
    std::string unsaid = prompt;
    model.generate(prompt, options, [&](const std::string& part) {
      std::cout << std::exchange(unsaid, "") << part << std::flush;
    });
    std::cout << unsaid << '\n';
  }
}

}  // namespace

void add_generate(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("generate", "Let a trained model of tokens write text");
  command->add_option("run", arguments->run, "the directory of a run of `trireme train`")
      ->required();
  command->add_option("prompt", arguments->prompts, "what each text begins with; none: nothing");
  command->add_option("--prompt-file", arguments->prompt_file,
                      "a file that holds the prompt; -: standard input");
  command->add_option("--weights", arguments->weights,
                      "a safetensors file, or the index of several, in place of the run's model");
  GenerateOptions& options = arguments->options;
  command->add_option("-n,--tokens", options.tokens, "the most tokens to write (100)");
  command->add_option("-t,--temperature", options.temperature,
                      "of the probabilities (1); 0: always the most likely token");
  command->add_option("--top-k", options.top_k, "choose among so many tokens; 0: all");
  command->add_option("--top-p", options.top_p,
                      "choose among the fewest tokens that have this probability together (1)");
  command->add_option("--seed", options.seed, "of the choices (0)");
  command->add_option("--stop", arguments->stop, "end before this token; may be repeated");
  command->add_flag("--json", arguments->json, "a line of JSON for each prompt");
  command->footer("    trireme generate run \"In the beginning\" -n 200 -t 0.8");
  command->callback([arguments, &exit_code] {
    generate_texts(*arguments);
    exit_code = 0;
  });
}

}  // namespace trireme::cli
