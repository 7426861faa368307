#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::Checkpoint& c) {
  const KeyAdder add{keys, "checkpoint."};
  add("every_steps", &c.every_steps,
      "steps between two checkpoints; 0: only at the end or on Ctrl-C", not_negative());
  add("keep", &c.keep, "how many checkpoints are kept, the newest", positive());
  add("keep_every", &c.keep_every,
      "of the checkpoints, the first after every so many steps is kept for ever; 0: none",
      not_negative())
      .used_unless("checkpoint.every_steps", {"0"});
  add("keep_best", &c.keep_best,
      "how many checkpoints are kept because evaluation.metric is best, for which each one is "
      "evaluated; 0: none",
      not_negative())
      .used_unless("checkpoint.every_steps", {"0"});
  add("mirror", &c.mirror, "a second folder to which each checkpoint is copied; empty: none",
      anything())
      .names_files();
  add("background", &c.background,
      "copies the state and writes the copy while training goes on; it costs as much memory as the "
      "rank writes",
      anything())
      .used_unless("checkpoint.every_steps", {"0"});
  add("model_file_bytes", &c.model_file_bytes,
      "bytes of tensors in a file of the trained model; a larger model is in several files with an "
      "index; 0: always one file",
      not_negative());
}

}  // namespace trireme
