#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::Checkpoint& c) {
  const KeyAdder add{keys, "checkpoint."};
  add("every_steps", &c.every_steps,
      "steps between two checkpoints; 0: only at the end or on Ctrl-C", not_negative());
  add("keep", &c.keep, "how many checkpoints are kept", positive());
  add("model_file_bytes", &c.model_file_bytes,
      "bytes of tensors in a file of the trained model; a larger model is in several files with an "
      "index; 0: always one file",
      not_negative());
}

}  // namespace trireme
