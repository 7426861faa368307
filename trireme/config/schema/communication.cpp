#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"
#include "trireme/kernels/compress.h"

namespace trireme {

namespace {

constexpr std::int64_t kMaxServerShards = 64;
constexpr std::int64_t kMaxCompressionRank = 64;
constexpr std::int64_t kMaxTimeoutSeconds = 1'000'000'000;

void use_with_servers(ConfigKey& key) {
  key.used_with("parallelism.strategy", {"parameter_server"})
      .used_with("communication.mode", {"asynchronous"})
      .used_with("communication.hybrid", {"bounded_staleness", "backup_workers"});
}

void use_with_local_steps(ConfigKey& key) {
  key.used_with("communication.hybrid", {"local_sgd", "diloco"});
}

void add_consistency(const KeyAdder& add, Config::Communication::Consistency& c) {
  add("mode", &c.mode,
      "synchronous: all ranks wait for each other at each step; asynchronous: no rank waits; "
      "hybrid: ranks wait now and then",
      one_of({"synchronous", "asynchronous", "hybrid"}));
  add("hybrid", &c.hybrid,
      "local_sgd: ranks take local steps and then average their parameters; diloco: the average "
      "change is the gradient of an outer optimizer; bounded_staleness: ranks push to servers and "
      "never read parameters that are too old; backup_workers: servers do not wait for the slowest "
      "ranks of a step",
      one_of({"local_sgd", "diloco", "bounded_staleness", "backup_workers"}))
      .used_with("communication.mode", {"hybrid"});
  add("staleness", &c.staleness,
      "steps by which parameters may be older than the rank that reads them", up_to(kMaxSteps))
      .used_with("communication.hybrid", {"bounded_staleness"});
  add("backup_workers", &c.backup_workers, "ranks of a step that the servers do not wait for",
      positive_up_to(kMaxRanks))
      .used_with("communication.hybrid", {"backup_workers"});
}

void add_servers(const KeyAdder& add, Config::Communication::Servers& c) {
  add("server_shards", &c.server_shards, "parameter servers that rank 0 runs",
      positive_up_to(kMaxServerShards))
      .used_with("communication.servers", {"[]"});
  use_with_servers(add(
      "servers", &c.servers,
      "addresses of all servers that `trireme serve` runs, in the order of their shards; empty: "
      "rank 0 runs the servers",
      anything()));
  add("replicas", &c.replicas,
      "1: each server has a replica; communication.servers lists the replicas after the servers",
      up_to(1))
      .used_unless("communication.servers", {"[]"});
  add("secret_key", &c.secret_key, "the file NAME.secret by which the servers know this worker",
      anything())
      .used_unless("communication.servers", {"[]"})
      .names_files();
  add("server_keys", &c.server_keys,
      "the files NAME.key by which the servers are known: one for each address, or one for all",
      anything())
      .used_unless("communication.servers", {"[]"})
      .names_files();
}

void add_local_steps(const KeyAdder& add, Config::Communication::Consistency& c) {
  use_with_local_steps(add("local_steps", &c.local_steps,
                           "steps that each group takes between two synchronizations",
                           positive_up_to(kMaxSteps)));
  add("group_size", &c.group_size,
      "ranks in a row that form a group: a group is synchronous, and counts as one rank for the "
      "other groups and the servers; 1: each rank is a group; 0: the ranks of a host",
      up_to(kMaxRanks))
      .used_unless("communication.mode", {"synchronous"});
  add("outer_lr", &c.outer_lr, "learning rate of the outer optimizer", positive())
      .used_with("communication.hybrid", {"diloco"});
  add("outer_momentum", &c.outer_momentum, "Nesterov momentum of the outer optimizer", fraction())
      .used_with("communication.hybrid", {"diloco"});
  use_with_local_steps(add("fragments", &c.fragments,
                           "fragments of the parameters, which are synchronized one after another",
                           positive_up_to(kMaxSteps)));
  use_with_local_steps(add("delay", &c.delay, "steps that continue while a fragment is on its way",
                           up_to(kMaxSteps)));
  add("mix", &c.mix,
      "weight of a rank's own values when it merges a fragment that was on its way (alpha)",
      fraction())
      .used_unless("communication.delay", {"0"});
}

void add_compression(const KeyAdder& add, Config::Communication::Compression& c) {
  const auto codecs = compression_codecs();
  add("compression", &c.compression,
      "how gradients are made smaller before they are sent, with error feedback",
      one_of({codecs.begin(), codecs.end()}));
  add("compression_ratio", &c.compression_ratio, "fraction of the values that is sent",
      number_rule("in (0, 1]", [](double x) { return x > 0 && x <= 1; }))
      .used_with("communication.compression", {"top_k", "random_k"});
  add("compression_rank", &c.compression_rank, "columns of the two factors of a matrix",
      positive_up_to(kMaxCompressionRank))
      .used_with("communication.compression", {"power_sgd"});
}

void add_transport(const KeyAdder& add, Config::Communication::Transport& c) {
  add("backend", &c.backend, "how ranks that mpirun, srun or torchrun has started are connected",
      one_of({"auto", "shm", "mpi", "gloo"}));
  add("reproducible", &c.reproducible,
      "sum in one order with any backend; false: in the order of MPI or Gloo where they sum",
      anything());
  add("interface", &c.interface,
      "address at which other hosts reach this one; empty: found automatically", anything())
      .may_differ_between_hosts();
  add("timeout", &c.timeout, "seconds after which a rank that does not respond is an error",
      number_rule("a number of seconds from 0.001 to 1000000000",
                  [](double x) { return x >= 0.001 && x <= kMaxTimeoutSeconds; }));
  add("heartbeat_timeout", &c.heartbeat_timeout,
      "seconds after which a rank of another host of which nothing is heard is lost; 0: never",
      number_rule("0 or a number of seconds from 3 to 1000000000",
                  [](double x) { return x == 0 || (x >= 3 && x <= kMaxTimeoutSeconds); }));
}

}  // namespace

void add_keys(std::vector<ConfigKey>& keys, Config::Communication& c) {
  const KeyAdder add{keys, "communication."};
  add_consistency(add, c.consistency);
  add_local_steps(add, c.consistency);
  add_servers(add, c.servers);
  add_compression(add, c.compression);
  add_transport(add, c.transport);
}

}  // namespace trireme
