// Tokenizes a text once for each line of standard input, each time by a tokenizer that was just
// loaded and remembers nothing, on one thread:
//
//   bench_bpe TOKENIZER TEXT
//
// Prints the seconds, without those of loading, the number of tokens and the SHA-256 of their ids
// as 32-bit little-endian numbers. bpe.cjs compares it with tiktoken.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "trireme/base/files.h"
#include "trireme/base/sha256.h"
#include "trireme/formats/tokenizer/tokenizer.h"

namespace {

void measure(const char* tokenizer_path, const std::string& text) {
  const auto tokenizer = trireme::read_tokenizer(tokenizer_path);
  std::vector<std::int32_t> ids;
  const auto begin = std::chrono::steady_clock::now();
  tokenizer->append(text, trireme::SpecialTokens::kAsText, ids);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const std::string_view bytes(reinterpret_cast<const char*>(ids.data()), 4 * ids.size());
  std::cout << fmt::format("{} {} {}\n", seconds.count(), ids.size(), trireme::sha256(bytes))
            << std::flush;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: bench_bpe TOKENIZER TEXT\n";
    return 2;
  }
  try {
    const std::string text = trireme::read_file(argv[2]);
    for (std::string line; std::getline(std::cin, line);) measure(argv[1], text);
  } catch (const std::exception& error) {
    std::cerr << "bench_bpe: " << error.what() << '\n';
    return 1;
  }
}
