#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::LrScheduler& c) {
  const KeyAdder add{keys, "lr_scheduler."};
  add("name", &c.name, "how the learning rate changes",
      one_of({"constant", "step", "cosine", "linear", "one_cycle"}));
  add("warmup_steps", &c.warmup_steps, "steps in which the rate rises from 0, before any schedule",
      not_negative());
  add("step_size", &c.step_size, "steps between two decays", positive())
      .used_with("lr_scheduler.name", {"step"});
  add("gamma", &c.gamma, "factor of a decay", positive()).used_with("lr_scheduler.name", {"step"});
  add("min_lr_ratio", &c.min_lr_ratio, "last rate / optimizer.lr", not_negative())
      .used_with("lr_scheduler.name", {"cosine", "linear"});
  add("max_lr", &c.max_lr, "the highest rate; 0: optimizer.lr", not_negative())
      .used_with("lr_scheduler.name", {"one_cycle"});
}

}  // namespace trireme
