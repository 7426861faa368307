#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <initializer_list>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/train/components.h"
#include "trireme/train/train.h"

namespace trireme {

namespace {

void require_file(std::string_view key, const std::string& path) {
  if (path.empty()) throw UsageError(fmt::format("{} must name a file, got nothing", key));
  if (!std::filesystem::exists(path)) {
    throw DataError(fmt::format("{}: no such file: {}{}", key, path,
                                path.find("fashion-mnist") == std::string::npos
                                    ? ""
                                    : " (apt-get install dataset-fashion-mnist)"));
  }
  if (std::filesystem::is_directory(path)) {
    throw DataError(fmt::format("{} must name a file, {} is a folder", key, path));
  }
}

void check_data(const Config::Data& data) {
  if (data.format == "csv") {
    require_file("data.path", data.path);
    if (data.target.empty()) {
      throw UsageError("data.target must name the column to predict, got nothing");
    }
    if (!data.test_path.empty()) require_file("data.test_path", data.test_path);
  } else if (data.format == "idx") {
    require_file("data.images", data.images);
    require_file("data.labels", data.labels);
    if (!data.test_images.empty()) {
      require_file("data.test_images", data.test_images);
      require_file("data.test_labels", data.test_labels);
    }
  }
  const bool has_test = !data.test_path.empty() || !data.test_images.empty();
  if (has_test && data.holdout > 0) {
    throw UsageError(
        "data.holdout and a test file exclude each other: one set to evaluate on is wanted");
  }
}

void check_batch(const Config::Training& training, std::int64_t virtual_workers, int ranks) {
  if (virtual_workers < ranks) {
    throw UsageError(fmt::format(
        "training.virtual_workers must be at least the {} ranks, got {}; use more virtual workers "
        "or -n {}",
        ranks, virtual_workers, virtual_workers));
  }
  if (training.global_batch < virtual_workers) {
    throw UsageError(fmt::format(
        "training.global_batch must hold a sample for each of the {} virtual workers, got {}",
        virtual_workers, training.global_batch));
  }
}

void check_shares(const Config::Training& training, std::int64_t virtual_workers, int ranks) {
  const bool are_given = !training.shares.empty();
  if (!are_given && !training.measure_shares) return;
  if (are_given && training.measure_shares) {
    throw UsageError(
        "training.shares and training.measure_shares exclude each other: they are given or "
        "measured");
  }
  if (are_given && training.shares.size() != static_cast<std::size_t>(ranks)) {
    throw UsageError(
        fmt::format("training.shares must have a number for each of the {} ranks, got {}: {}",
                    ranks, training.shares.size(), training.shares));
  }
  if (ranks > 1 && virtual_workers == ranks) {
    throw UsageError(fmt::format(
        "training.virtual_workers must be more than the {} ranks, best several times as many, for "
        "{} to deal them out, got {}",
        ranks, are_given ? "training.shares" : "training.measure_shares", virtual_workers));
  }
}

void check_optimizer(const Config::Optimizer& optimizer) {
  if (optimizer.nesterov && optimizer.momentum == 0) {
    throw UsageError("optimizer.nesterov needs optimizer.momentum above 0, got 0");
  }
}

void check_hybrid(const Config& config) {
  const Config::Communication& c = config.communication;
  if (c.mode != "hybrid" || goes_through_servers(config)) return;
  if (config.parallelism.strategy != "replicated") {
    throw UsageError(
        fmt::format("communication.mode = \"hybrid\" needs parallelism.strategy = \"replicated\", "
                    "got \"{}\": ranks that go on alone cannot share their parameters",
                    config.parallelism.strategy));
  }
  if (c.fragments > c.local_steps) {
    throw UsageError(
        fmt::format("communication.fragments must be at most the {} communication.local_steps, "
                    "got {}",
                    c.local_steps, c.fragments));
  }
  if (c.delay >= c.local_steps) {
    throw UsageError(fmt::format(
        "communication.delay must be less than the {} communication.local_steps, got {}",
        c.local_steps, c.delay));
  }
}

void check_servers(const Config& config, int ranks) {
  const Config::Communication& c = config.communication;
  if (!goes_through_servers(config)) return;
  if (config.parallelism.strategy == "host_shared" ||
      (c.mode == "hybrid" && (c.hybrid == "local_sgd" || c.hybrid == "diloco"))) {
    throw UsageError(fmt::format(
        "parallelism.strategy = \"{}\" does not go with communication.mode = \"{}\"{}",
        config.parallelism.strategy, c.mode,
        c.mode == "hybrid" ? fmt::format(" and communication.hybrid = \"{}\"", c.hybrid) : ""));
  }
  if (c.replicas > 0 && c.servers.empty()) {
    throw UsageError(
        "communication.replicas = 1 is for servers that are programs of their own "
        "(communication.servers, `trireme serve`); without, they run in rank 0 and end with it");
  }
  if (c.group_size != 1 && !ranks_go_alone(config)) {
    throw UsageError(fmt::format(
        "communication.group_size = {} needs communication.mode = \"asynchronous\" or \"hybrid\", "
        "got \"{}\": all ranks are in step",
        c.group_size, c.mode));
  }
  // Which ranks share memory is not known yet: the strategy checks those groups.
  const std::int64_t workers = c.group_size < 1 ? ranks : (ranks + c.group_size - 1) / c.group_size;
  if (c.mode == "hybrid" && c.hybrid == "backup_workers" && c.backup_workers >= workers) {
    throw UsageError(fmt::format(
        "communication.backup_workers must leave one of the {} {} to be waited for, got {}",
        workers, c.group_size > 1 ? "groups" : "ranks", c.backup_workers));
  }
}

void check_compression(const Config& config) {
  const Config::Communication& c = config.communication;
  if (c.compression == "none") return;
  if (ranks_go_alone(config)) return;
  if (config.parallelism.strategy == "replicated" && !goes_through_servers(config)) return;
  throw UsageError(fmt::format(
      "communication.compression = \"{}\" needs parallelism.strategy = \"replicated\" and "
      "communication.mode = \"synchronous\", \"asynchronous\" or \"hybrid\", got \"{}\" and "
      "\"{}\": the others do not send gradients to each other",
      c.compression, config.parallelism.strategy, c.mode));
}

}  // namespace

void check(const Config& config, int ranks) {
  check_data(config.data);
  check_batch(config.training, virtual_workers_of(config, ranks), ranks);
  check_shares(config.training, virtual_workers_of(config, ranks), ranks);
  check_optimizer(config.optimizer);
  check_hybrid(config);
  check_servers(config, ranks);
  check_compression(config);
  if (config.model.name == "torchscript") require_file("model.path", config.model.path);
}

}  // namespace trireme
