#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::Run& c) {
  const KeyAdder add{keys, "run."};
  add("directory", &c.directory,
      "folder for model, metrics, logs and checkpoints: new, empty or of a run", path())
      .may_differ_between_hosts();
}

}  // namespace trireme
