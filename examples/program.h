#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/environment.h"
#include "trireme/server/model_schema.h"

namespace trireme::examples {

/// Connects the ranks of this host that `trireme run` has started; a world of one without it.
inline std::unique_ptr<Communicator> join() {
  const RankEnvironment told = read_environment();
  if (!told.world_fd) {
    if (told.world_size == 1) return self_communicator();
    throw UsageError("this program is for the ranks of one host, started by `trireme run -n N`");
  }
  return shm::World::open(*told.world_fd).join(told.rank);
}

/// Words of the form `--name number` behind a program's name.
class Flags {
 public:
  Flags(int argc, char** argv) : words_(argv + 1, argv + argc) {}

  /// Takes `--name` and its number out of the words; `otherwise` if it is not there. Throws
  /// UsageError for what is no number of at least `least`.
  double take(const std::string& name, double otherwise, double least = 0) {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      if (words_[i] != name) continue;
      const std::string word = i + 1 < words_.size() ? words_[i + 1] : "nothing";
      std::size_t end = 0;
      double number = 0;
      try {
        number = std::stod(word, &end);
      } catch (const std::exception&) {
      }
      if (end == 0 || end != word.size() || !(number >= least) || number > 1e12) {
        throw UsageError(name + " must be a number of at least " + std::to_string(least) +
                         ", got \"" + word + "\"");
      }
      const auto at = words_.begin() + static_cast<std::ptrdiff_t>(i);
      words_.erase(at, at + 2);
      return number;
    }
    return otherwise;
  }

  /// The words that no take() has taken.
  const std::vector<std::string>& rest() const { return words_; }

 private:
  std::vector<std::string> words_;
};

/// `--staleness N` bounds how far workers may be apart; without it no worker waits.
inline server::Consistency take_consistency(Flags& flags, int workers) {
  const auto staleness = static_cast<int>(flags.take("--staleness", -1));
  if (staleness < 0) return {.workers = workers};
  return {.mode = server::Consistency::Mode::kBounded, .workers = workers, .staleness = staleness};
}

}  // namespace trireme::examples
