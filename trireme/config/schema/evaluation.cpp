#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::Evaluation& c) {
  const KeyAdder add{keys, "evaluation."};
  add("every_epochs", &c.every_epochs, "epochs between two evaluations; 0: only at the end",
      not_negative());
  add("every_steps", &c.every_steps, "steps between two evaluations; 0: every_epochs decides",
      not_negative());
  add("batch", &c.batch, "samples of one forward pass", positive());
  add("metric", &c.metric,
      "which checkpoints are the best: those with the lowest loss, perplexity or bits_per_byte, or "
      "the highest accuracy or r2",
      one_of({"loss", "accuracy", "r2", "perplexity", "bits_per_byte"}))
      .used_unless("checkpoint.keep_best", {"0"});
}

}  // namespace trireme
