#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::Metrics& c) {
  const KeyAdder add{keys, "metrics."};
  add("every_steps", &c.every_steps, "steps between two lines of metrics.jsonl", positive());
}

}  // namespace trireme
