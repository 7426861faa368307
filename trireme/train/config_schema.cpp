#include "trireme/train/config_schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "trireme/kernels/compress.h"

namespace trireme {

namespace {

using Rule = ConfigKey::Rule;
using Variable = ConfigKey::Target;

// Beyond these a number is a slip of the hand, and products of two would overflow.
constexpr std::int64_t kMaxSamples = std::int64_t{1} << 42;
constexpr std::int64_t kMaxEpochs = 1'000'000;
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 31;
constexpr std::int64_t kMaxVirtualWorkers = 1 << 16;
constexpr std::int64_t kMaxServerShards = 64;
constexpr std::int64_t kMaxThreads = 1024;
constexpr std::int64_t kMaxLocalSteps = 1'000'000;
constexpr std::int64_t kMaxGroupSize = 1 << 16;
constexpr std::int64_t kMaxCompressionRank = 64;
constexpr std::int64_t kMaxTimeoutSeconds = 1'000'000'000;

double number(const Variable& value) {
  if (const auto* integer = std::get_if<std::int64_t*>(&value)) {
    return static_cast<double>(**integer);
  }
  return *std::get<double*>(value);
}

Rule number_rule(std::string wanted, std::function<bool(double)> allowed) {
  return [=](const Variable& value) -> std::optional<std::string> {
    if (allowed(number(value))) return std::nullopt;
    return wanted;
  };
}

Rule anything() {
  return [](const Variable&) { return std::optional<std::string>(); };
}

Rule positive() {
  return number_rule("a positive number", [](double x) { return x > 0 && std::isfinite(x); });
}

Rule not_negative() {
  return number_rule("zero or a positive number",
                     [](double x) { return x >= 0 && std::isfinite(x); });
}

Rule at_least(double least) {
  return number_rule(fmt::format("{} or more", least), [=](double x) { return x >= least; });
}

Rule positive_up_to(std::int64_t most) {
  return number_rule(fmt::format("a number from 1 to {}", most),
                     [most](double x) { return x >= 1 && x <= static_cast<double>(most); });
}

Rule up_to(std::int64_t most) {
  return number_rule(fmt::format("a number from 0 to {}", most),
                     [most](double x) { return x >= 0 && x <= static_cast<double>(most); });
}

Rule path() {
  return [](const Variable& value) -> std::optional<std::string> {
    if (!std::get<std::string*>(value)->empty()) return std::nullopt;
    return "a path";
  };
}

Rule fraction() {
  return number_rule("a number from 0 up to but without 1",
                     [](double x) { return x >= 0 && x < 1; });
}

Rule one_of(std::vector<std::string> allowed) {
  return [=](const Variable& value) -> std::optional<std::string> {
    const std::string& text = *std::get<std::string*>(value);
    if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) return std::nullopt;
    return fmt::format("one of \"{}\"", fmt::join(allowed, "\", \""));
  };
}

Rule positive_integers() {
  return [](const Variable& value) -> std::optional<std::string> {
    const auto& list = *std::get<std::vector<std::int64_t>*>(value);
    const bool good = std::all_of(list.begin(), list.end(),
                                  [](std::int64_t x) { return x > 0 && x <= kMaxWidth; });
    if (good) return std::nullopt;
    return fmt::format("a list of integers from 1 to {}", kMaxWidth);
  };
}

Rule positive_numbers() {
  return [](const Variable& value) -> std::optional<std::string> {
    const auto& list = *std::get<std::vector<double>*>(value);
    if (std::all_of(list.begin(), list.end(), [](double x) { return x > 0 && std::isfinite(x); })) {
      return std::nullopt;
    }
    return "a list of positive numbers";
  };
}

Rule betas() {
  return [](const Variable& value) -> std::optional<std::string> {
    const auto& list = *std::get<std::vector<double>*>(value);
    const bool good = list.size() == 2 && std::all_of(list.begin(), list.end(),
                                                      [](double b) { return b >= 0 && b < 1; });
    if (good) return std::nullopt;
    return "two numbers from 0 up to but without 1";
  };
}

struct Section {
  std::vector<ConfigKey>& keys;
  std::string prefix;

  void operator()(const char* name, Variable value, const char* meaning, Rule rule) const {
    keys.push_back({prefix + name, value, meaning, std::move(rule)});
  }
};

void add_data(std::vector<ConfigKey>& keys, Config::Data& c) {
  const Section add{keys, "data."};
  add("format", &c.format, "linear_model is generated from the seed and needs no file",
      one_of({"csv", "idx", "linear_model"}));
  add("path", &c.path, "csv: the training file, .gz too", anything());
  add("target", &c.target, "csv: the column to predict", anything());
  add("features", &c.features, "csv: the columns to predict from; empty: all the others",
      anything());
  add("task", &c.task, "csv: whether the target is a number or a class; auto: from model.name",
      one_of({"auto", "regression", "classification"}));
  add("missing", &c.missing, "csv: what an empty field does", one_of({"error", "drop", "mean"}));
  add("delimiter", &c.delimiter, "csv: the separator; auto: found in the header",
      one_of({"auto", ",", ";", "\t", " ", "|"}));
  add("header", &c.header, "csv: the first line names the columns; false: they are 1, 2, ...",
      anything());
  add("standardize", &c.standardize,
      "features to mean 0 and variance 1, computed over the training samples of all ranks",
      anything());
  add("standardize_target", &c.standardize_target, "the same for a regression target", anything());
  add("images", &c.images, "idx: the images, .gz too", anything());
  add("labels", &c.labels, "idx: their labels", anything());
  add("test_path", &c.test_path, "csv: a file to evaluate on", anything());
  add("test_images", &c.test_images, "idx: images to evaluate on", anything());
  add("test_labels", &c.test_labels, "idx: their labels", anything());
  add("samples", &c.samples, "linear_model: how many samples", positive_up_to(kMaxSamples));
  add("features_count", &c.features_count, "linear_model: inputs of a sample",
      positive_up_to(kMaxWidth));
  add("noise", &c.noise, "linear_model: standard deviation of the noise", not_negative());
  add("holdout", &c.holdout, "share of the samples held back for evaluation, chosen by the seed",
      fraction());
  add("sampler", &c.sampler,
      "random: a new permutation each epoch; block: each virtual worker its own piece; sequential: "
      "in order, dealt out in turn",
      one_of({"random", "block", "sequential"}));
  add("drop_last", &c.drop_last, "leave out the last, smaller batch of an epoch", anything());
  add("prefetch_steps", &c.prefetch_steps,
      "steps that a thread reads ahead; 0: no thread; -1: 64 if a core is free for it, else 0",
      at_least(-1));
}

void add_model(std::vector<ConfigKey>& keys, Config::Model& c) {
  const Section add{keys, "model."};
  add("name", &c.name,
      "linear and logistic regression, multi-layer perceptron, small CNN, or a TorchScript file",
      one_of({"linear", "logistic", "mlp", "cnn", "torchscript"}));
  add("hidden", &c.hidden, "mlp, cnn: widths of the hidden layers; empty: 512, 512 and 128",
      positive_integers());
  add("channels", &c.channels, "cnn: channels of each convolution", positive_integers());
  add("kernel", &c.kernel, "cnn: side of the kernels, in pixels", positive_up_to(1 << 16));
  add("activation", &c.activation, "mlp, cnn", one_of({"relu", "tanh", "gelu", "sigmoid"}));
  add("batch_norm", &c.batch_norm, "cnn: normalise after each convolution", anything());
  add("dropout", &c.dropout, "mlp, cnn: share of the hidden values set to zero", fraction());
  add("init", &c.init, "how weights start; default: as libtorch does",
      one_of({"default", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal",
              "orthogonal", "zero"}));
  add("path", &c.path, "torchscript: the file; it may run code, so use only files you trust",
      anything());
}

void add_training(std::vector<ConfigKey>& keys, Config::Training& c) {
  const Section add{keys, "training."};
  add("epochs", &c.epochs, "passes over the data, if steps is 0", positive_up_to(kMaxEpochs));
  add("steps", &c.steps, "optimizer updates; 0: as many as epochs ask for", not_negative());
  add("global_batch", &c.global_batch, "samples of one step over all ranks",
      positive_up_to(kMaxSamples));
  add("virtual_workers", &c.virtual_workers,
      "fixed slices of the global batch: the same number gives the same bits on any number of "
      "ranks, and more than the ranks accumulate gradients; 0: one a rank",
      up_to(kMaxVirtualWorkers));
  add("shares", &c.shares,
      "a number a rank: how fast it is beside the others; the virtual workers are dealt out in "
      "proportion, one at least each; empty: evenly",
      positive_numbers());
  add("measure_shares", &c.measure_shares,
      "find shares before the first step: each rank computes by itself for a second", anything());
  add("dtype", &c.dtype, "of data and parameters", one_of({"f32", "f64"}));
  add("loss", &c.loss, "auto: mse for numbers, cross-entropy for classes",
      one_of({"auto", "mse", "cross_entropy", "bce_with_logits"}));
  add("seed", &c.seed, "of initial weights, shuffling, dropout and generated data", not_negative());
  add("threads", &c.threads, "libtorch threads of a rank; 0: cores / ranks", up_to(kMaxThreads));
  add("clip_norm", &c.clip_norm, "largest L2 norm of the gradient; 0: no limit", not_negative());
  add("clip_value", &c.clip_value, "largest absolute value in the gradient; 0: no limit",
      not_negative());
}

void add_optimizer(std::vector<ConfigKey>& keys, Config::Optimizer& c) {
  const Section add{keys, "optimizer."};
  add("name", &c.name, "", one_of({"sgd", "adam", "adamw", "rmsprop", "adagrad", "ftrl"}));
  add("lr", &c.lr, "learning rate", positive());
  add("momentum", &c.momentum, "sgd, rmsprop", fraction());
  add("dampening", &c.dampening, "sgd: of the momentum", fraction());
  add("nesterov", &c.nesterov, "sgd: look ahead along the momentum", anything());
  add("weight_decay", &c.weight_decay, "L2 penalty; adamw: decoupled", not_negative());
  add("betas", &c.betas, "adam, adamw: decay of the first and the second moment", betas());
  add("eps", &c.eps, "adam, adamw, rmsprop, adagrad; 0: the optimizer's own default",
      not_negative());
  add("alpha", &c.alpha, "rmsprop: decay of the mean square", fraction());
  add("centered", &c.centered, "rmsprop: divide by the variance", anything());
  add("lr_decay", &c.lr_decay, "adagrad: of the learning rate", not_negative());
  add("initial_accumulator", &c.initial_accumulator, "adagrad: where the sum starts",
      not_negative());
  add("beta", &c.beta, "ftrl: added to the root of the sum of squares", not_negative());
  add("l1", &c.l1, "ftrl: strength of the L1 norm, which makes weights zero", not_negative());
  add("l2", &c.l2, "ftrl: strength of the squared L2 norm", not_negative());
}

void add_lr_scheduler(std::vector<ConfigKey>& keys, Config::LrScheduler& c) {
  const Section add{keys, "lr_scheduler."};
  add("name", &c.name, "", one_of({"constant", "step", "cosine", "linear", "one_cycle"}));
  add("warmup_steps", &c.warmup_steps, "steps in which the rate rises from 0, before any schedule",
      not_negative());
  add("step_size", &c.step_size, "step: steps between two decays", positive());
  add("gamma", &c.gamma, "step: factor of a decay", positive());
  add("min_lr_ratio", &c.min_lr_ratio, "cosine, linear: last rate / optimizer.lr", not_negative());
  add("max_lr", &c.max_lr, "one_cycle: the peak; 0: optimizer.lr", not_negative());
}

void add_hybrid(std::vector<ConfigKey>& keys, Config::Communication& c) {
  const Section add{keys, "communication."};
  add("hybrid", &c.hybrid,
      "hybrid: what becomes of the steps that ranks took alone: local_sgd: their mean; diloco: an "
      "outer optimizer's gradient; or through servers, bounded_staleness: nobody reads parameters "
      "that are too old; backup_workers: the slowest ranks of a step are not waited for",
      one_of({"local_sgd", "diloco", "bounded_staleness", "backup_workers"}));
  add("staleness", &c.staleness,
      "bounded_staleness: steps by which parameters may be older than the rank that reads them",
      up_to(kMaxLocalSteps));
  add("backup_workers", &c.backup_workers,
      "backup_workers: how many ranks of a step are not waited for", positive_up_to(kMaxGroupSize));
  add("server_shards", &c.server_shards,
      "parameter servers that rank 0 runs where parameters go through servers and none are named",
      positive_up_to(kMaxServerShards));
  add("servers", &c.servers,
      "addresses of all servers that `trireme serve` runs, in the order of their shards",
      anything());
  add("replicas", &c.replicas,
      "1: each of the servers has a backup, and their addresses go on with those of the backups",
      up_to(1));
  add("secret_key", &c.secret_key, "file NAME.secret by which the servers know this worker",
      anything());
  add("server_keys", &c.server_keys,
      "files NAME.key by which the servers are known: one for each address, or one for all",
      anything());
  add("local_steps", &c.local_steps, "hybrid: steps that ranks take alone",
      positive_up_to(kMaxLocalSteps));
  add("group_size", &c.group_size,
      "hybrid, asynchronous: so many ranks in a row stay in step, and talk with the others or the "
      "servers as one; 1: each is alone; 0: the ranks of a host",
      up_to(kMaxGroupSize));
  add("outer_lr", &c.outer_lr, "diloco: learning rate of the outer optimizer", positive());
  add("outer_momentum", &c.outer_momentum, "diloco: its Nesterov momentum", fraction());
  add("fragments", &c.fragments,
      "hybrid: the parameters are sent in so many pieces, each in its turn",
      positive_up_to(kMaxLocalSteps));
  add("delay", &c.delay, "hybrid: steps that go on while a piece is under way",
      up_to(kMaxLocalSteps));
  add("mix", &c.mix,
      "hybrid: the share of its own values that a rank keeps when a piece comes late", fraction());
}

void add_compression(std::vector<ConfigKey>& keys, Config::Communication& c) {
  const Section add{keys, "communication."};
  const auto codecs = compression_codecs();
  add("compression", &c.compression,
      "how gradients are made smaller before they travel, with error feedback",
      one_of({codecs.begin(), codecs.end()}));
  add("compression_ratio", &c.compression_ratio, "top_k, random_k: share of the values that travel",
      number_rule("a number above 0 and up to 1", [](double x) { return x > 0 && x <= 1; }));
  add("compression_rank", &c.compression_rank, "power_sgd: columns of the two factors of a matrix",
      positive_up_to(kMaxCompressionRank));
}

void add_rest(std::vector<ConfigKey>& keys, Config& c) {
  const Section add{keys, ""};
  add("parallelism.strategy", &c.parallelism.strategy,
      "replicated: all parameters on every rank; host_shared: one copy per host, state cut over "
      "its "
      "ranks; parameter_server: parameters and state on servers, as always in mode asynchronous",
      one_of({"replicated", "host_shared", "parameter_server"}));
  add("parallelism.bucket_bytes", &c.parallelism.bucket_bytes,
      "gradients that are all-reduced at once, in bytes", positive());
  add("parallelism.pin", &c.parallelism.pin, "bind each rank to its own cores", anything());
  add("communication.mode", &c.communication.mode,
      "synchronous: all ranks wait for each other at each step; asynchronous: nobody waits; "
      "hybrid: "
      "now and then",
      one_of({"synchronous", "asynchronous", "hybrid"}));
  add_hybrid(keys, c.communication);
  add_compression(keys, c.communication);
  add("communication.backend", &c.communication.backend,
      "how ranks that mpirun, srun or torchrun has started are joined",
      one_of({"auto", "shm", "mpi", "gloo"}));
  add("communication.reproducible", &c.communication.reproducible,
      "sum in one order on any backend; false: in the order of MPI or Gloo where it is theirs to "
      "sum",
      anything());
  add("communication.interface", &c.communication.interface,
      "address by which other hosts reach this one; empty: found out", anything());
  add("communication.timeout", &c.communication.timeout,
      "seconds after which a rank that does not come is an error",
      number_rule("a number of seconds from 0.001 to 1000000000",
                  [](double x) { return x >= 0.001 && x <= kMaxTimeoutSeconds; }));
  add("evaluation.every_epochs", &c.evaluation.every_epochs,
      "epochs between two evaluations; 0: only at the end", not_negative());
  add("evaluation.every_steps", &c.evaluation.every_steps, "the same in steps; 0: off",
      not_negative());
  add("evaluation.batch", &c.evaluation.batch, "samples of one forward pass", positive());
  add("metrics.every_steps", &c.metrics.every_steps, "steps between two lines of metrics.jsonl",
      positive());
  add("checkpoint.every_steps", &c.checkpoint.every_steps,
      "steps between two checkpoints; 0: only at the end or on Ctrl-C", not_negative());
  add("checkpoint.keep", &c.checkpoint.keep, "how many checkpoints are kept", positive());
}

}  // namespace

std::vector<ConfigKey> schema_of(Config& config) {
  std::vector<ConfigKey> keys;
  keys.push_back({"run.directory", &config.run.directory,
                  "where model, metrics, logs and checkpoints are written", path()});
  add_data(keys, config.data);
  add_model(keys, config.model);
  add_training(keys, config.training);
  add_optimizer(keys, config.optimizer);
  add_lr_scheduler(keys, config.lr_scheduler);
  add_rest(keys, config);
  return keys;
}

}  // namespace trireme
