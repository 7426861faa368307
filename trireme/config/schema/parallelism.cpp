#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::Parallelism& c) {
  const KeyAdder add{keys, "parallelism."};
  add("strategy", &c.strategy,
      "replicated: every rank has all parameters; host_shared: the ranks of a host share one copy, "
      "and each updates its part; parameter_server: parameters and optimizer state are on servers, "
      "as they always are in mode asynchronous",
      one_of({"replicated", "host_shared", "parameter_server"}));
  add("bucket_bytes", &c.bucket_bytes, "gradients that are all-reduced at once, in bytes",
      positive());
  add("recompute", &c.recompute,
      "what backward passes compute again in place of keeping it: selective: the probabilities of "
      "attention; full: each block from its input; the bits are the same",
      one_of({"none", "selective", "full"}));
  add("pin", &c.pin, "bind each rank to cores of its own", anything());
}

}  // namespace trireme
