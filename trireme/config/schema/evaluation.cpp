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
}

}  // namespace trireme
