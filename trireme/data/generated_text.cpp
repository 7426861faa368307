#include "trireme/data/generated_text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>
#include <vector>

#include "trireme/base/random.h"

namespace trireme {

namespace {

constexpr std::size_t kWords = 600;
constexpr std::size_t kFollowers = 4;

constexpr std::array<std::string_view, 16> kOnsets = {"b", "d", "f", "g",  "k", "l",  "m", "n",
                                                      "p", "r", "s", "st", "t", "th", "v", "w"};
constexpr std::array<std::string_view, 8> kVowels = {"a", "e", "i", "o", "u", "ai", "ea", "ou"};
constexpr std::array<std::string_view, 8> kEnds = {"", "", "n", "r", "s", "l", "m", "nd"};

/// Random numbers, one after another.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : random_(seed) {}

  double uniform() { return random_.uniform(next_++); }
  std::size_t below(std::size_t count) {
    return std::min(count - 1, static_cast<std::size_t>(uniform() * static_cast<double>(count)));
  }
  // Of the words, with a probability near 1 / (1 + rank).
  std::size_t word() {
    const double rank = std::exp(uniform() * std::log(static_cast<double>(kWords + 1))) - 1;
    return std::min(kWords - 1, static_cast<std::size_t>(rank));
  }

 private:
  CounterRandom random_;
  std::uint64_t next_ = 0;
};

std::string made_up_word(Draws& draws) {
  std::string word;
  const std::size_t syllables = 1 + draws.below(3);
  for (std::size_t i = 0; i < syllables; ++i) {
    word += kOnsets[draws.below(kOnsets.size())];
    word += kVowels[draws.below(kVowels.size())];
    word += kEnds[draws.below(kEnds.size())];
  }
  return word;
}

}  // namespace

std::string generated_text(std::uint64_t seed, std::int64_t bytes) {
  Draws draws(mix_seed(seed, 0x7465'7874));
  std::vector<std::string> words(kWords);
  std::vector<std::array<std::size_t, kFollowers>> followers(kWords);
  for (std::size_t i = 0; i < kWords; ++i) {
    words[i] = made_up_word(draws);
    for (std::size_t& follower : followers[i]) follower = draws.word();
  }
  std::string text;
  std::size_t word = 0;
  while (std::ssize(text) < bytes) {
    const std::size_t length = 3 + draws.below(10);
    for (std::size_t i = 0; i < length; ++i) {
      constexpr double kFollows = 0.7;
      word = draws.uniform() < kFollows ? followers[word][draws.below(kFollowers)] : draws.word();
      const std::size_t begin = text.size();
      text += words[word];
      if (i == 0) text[begin] = static_cast<char>(std::toupper(text[begin]));
      text += i + 1 < length ? " " : "";
    }
    text += draws.below(8) == 0 ? ".\n" : ". ";
  }
  return text;
}

}  // namespace trireme
