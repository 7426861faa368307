#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

namespace {

constexpr std::int64_t kMaxStage = 3;

}  // namespace

void add_keys(std::vector<ConfigKey>& keys, Config::Parallelism& c) {
  const KeyAdder add{keys, "parallelism."};
  add("strategy", &c.strategy,
      "replicated: every rank has all parameters; host_shared: the ranks of a host share one copy, "
      "and each updates its part; parameter_server: parameters and optimizer state are on servers, "
      "as they always are in mode asynchronous",
      one_of({"replicated", "host_shared", "parameter_server"}));
  add("shard", &c.shard,
      "the stage of ZeRO: 1: each rank holds its part of the optimizer's state; 2: of the "
      "gradients, "
      "too; 3: of the parameters, too; 0: every rank holds all; the bits are the same",
      up_to(kMaxStage))
      .used_with("parallelism.strategy", {"replicated"});
  add("shard_within", &c.shard_within,
      "world: parts are spread over all ranks; host: over the ranks of each host, and hosts hold "
      "copies",
      one_of({"world", "host"}))
      .used_unless("parallelism.shard", {"0"});
  add("bucket_bytes", &c.bucket_bytes, "gradients that are all-reduced at once, in bytes",
      positive());
  add("recompute", &c.recompute,
      "what backward passes compute again in place of keeping it: selective: the probabilities of "
      "attention; full: each block from its input; the bits are the same",
      one_of({"none", "selective", "full"}));
  add("pin", &c.pin, "bind each rank to cores of its own", anything());
}

}  // namespace trireme
