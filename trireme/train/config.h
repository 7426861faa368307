#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace trireme {

/// Everything that one run is made of: the TOML file, section by section. What each key means and
/// may be stands once, in config_schema.cpp.
struct Config {
  struct Run {
    std::string directory = "run";
  } run;

  struct Data {
    std::string format = "linear_model";
    std::string path;
    std::string target;
    std::vector<std::string> features;
    std::string task = "auto";
    std::string missing = "error";
    std::string delimiter = "auto";
    bool header = true;
    bool standardize = false;
    bool standardize_target = false;
    std::string images;
    std::string labels;
    std::string test_path;
    std::string test_images;
    std::string test_labels;
    std::int64_t samples = 10000;
    std::int64_t features_count = 100;
    double noise = 0.1;
    double holdout = 0.0;
    std::string sampler = "random";
    bool drop_last = false;
    std::int64_t prefetch_steps = -1;
  } data;

  struct Model {
    std::string name = "linear";
    std::vector<std::int64_t> hidden;
    std::vector<std::int64_t> channels = {32, 64};
    std::int64_t kernel = 3;
    std::string activation = "relu";
    bool batch_norm = true;
    double dropout = 0.0;
    std::string init = "default";
    std::string path;
  } model;

  struct Training {
    std::int64_t epochs = 1;
    std::int64_t steps = 0;
    std::int64_t global_batch = 64;
    std::int64_t virtual_workers = 0;
    std::vector<double> shares;
    bool measure_shares = false;
    std::string dtype = "f32";
    std::string loss = "auto";
    std::int64_t seed = 1;
    std::int64_t threads = 0;
    double clip_norm = 0.0;
    double clip_value = 0.0;
  } training;

  struct Optimizer {
    std::string name = "sgd";
    double lr = 0.01;
    double momentum = 0.0;
    double dampening = 0.0;
    bool nesterov = false;
    double weight_decay = 0.0;
    std::vector<double> betas = {0.9, 0.999};
    double eps = 0.0;
    double alpha = 0.99;
    bool centered = false;
    double lr_decay = 0.0;
    double initial_accumulator = 0.0;
    double beta = 1.0;
    double l1 = 0.0;
    double l2 = 0.0;
  } optimizer;

  struct LrScheduler {
    std::string name = "constant";
    std::int64_t warmup_steps = 0;
    std::int64_t step_size = 1000;
    double gamma = 0.1;
    double min_lr_ratio = 0.0;
    double max_lr = 0.0;
  } lr_scheduler;

  struct Parallelism {
    std::string strategy = "replicated";
    std::int64_t bucket_bytes = 1 << 20;
    bool pin = true;
  } parallelism;

  struct Communication {
    std::string mode = "synchronous";
    std::string hybrid = "local_sgd";
    std::int64_t staleness = 3;
    std::int64_t backup_workers = 1;
    std::int64_t server_shards = 1;
    std::vector<std::string> servers;
    std::int64_t replicas = 0;
    std::string secret_key;
    std::vector<std::string> server_keys;
    std::int64_t local_steps = 16;
    std::int64_t group_size = 1;
    double outer_lr = 0.7;
    double outer_momentum = 0.9;
    std::int64_t fragments = 1;
    std::int64_t delay = 0;
    double mix = 0.5;
    std::string compression = "none";
    double compression_ratio = 0.01;
    std::int64_t compression_rank = 2;
    std::string backend = "auto";
    bool reproducible = true;
    std::string interface;
    double timeout = 1800;
  } communication;

  struct Evaluation {
    std::int64_t every_epochs = 1;
    std::int64_t every_steps = 0;
    std::int64_t batch = 256;
  } evaluation;

  struct Metrics {
    std::int64_t every_steps = 50;
  } metrics;

  struct Checkpoint {
    std::int64_t every_steps = 0;
    std::int64_t keep = 2;
  } checkpoint;
};

/// What `trireme keys` lists of one key.
struct KeyDescription {
  std::string name;           ///< "optimizer.lr"
  std::string type;           ///< "number", "integer", "boolean", "text", "list of integers", ...
  std::string default_value;  ///< as TOML
  std::string meaning;        ///< with unit and what is allowed
};

std::vector<KeyDescription> config_keys();

/// Reads `path` (empty: defaults alone), then `overrides`, each "section.key=value" with a TOML
/// value (quotes around text may be left out). Throws UsageError
/// `fashion.toml:14:9: optimizer.lr must be a positive number, got "fast"`; for an unknown key the
/// nearest known one is named. DataError if the file cannot be read.
Config read_config(const std::filesystem::path& path, std::span<const std::string> overrides);

/// The same of a text, called `source` in errors.
Config parse_config(const std::string& toml, const std::string& source,
                    std::span<const std::string> overrides);

/// Every key with its value; reads back as the same Config.
std::string to_toml(const Config& config);

}  // namespace trireme
