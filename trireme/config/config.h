#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/config/duration.h"

namespace trireme {

/// The configuration of one run: the TOML file, section by section. config/schema/ says once what
/// each key means, which values it may have and which other keys use it.
struct Config {
  struct Run {
    std::string directory = "run";
  } run;

  struct Data {
    std::string format = "linear_model";
    std::string path;
    std::string target;
    std::vector<std::string> features;
    std::vector<std::string> categorical;
    std::vector<std::string> ignore;
    std::string task = "auto";
    std::string missing = "error";
    std::vector<std::string> na_values = {"NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"};
    std::string delimiter = "auto";
    std::string decimal = ".";
    std::string thousands;
    bool header = true;
    bool standardize = false;
    bool standardize_target = false;
    std::string images;
    std::string labels;
    std::int64_t pad_to = 0;
    std::string test_path;
    std::string test_images;
    std::string test_labels;
    std::int64_t samples = 10000;
    std::int64_t features_count = 100;
    double noise = 0.1;
    std::string tokenizer = "characters";
    std::string documents = "file";
    std::string field = "text";
    std::string prompt_field;
    std::string not_utf8 = "error";
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
    std::string stem = "auto";
    std::int64_t stem_channels = 64;
    double dropout = 0.0;
    std::int64_t layers = 4;
    std::int64_t width = 128;
    std::int64_t heads = 4;
    std::int64_t kv_heads = 0;
    std::int64_t mlp_width = 0;
    std::int64_t context = 64;
    std::int64_t vocabulary = 0;
    bool tie_embeddings = true;
    double norm_eps = 1e-5;
    double rope_theta = 10000;
    std::string init = "default";
    std::string weights;
    std::string path;
  } model;

  struct Training {
    std::int64_t epochs = 1;
    std::int64_t steps = 0;
    Duration max_time;
    std::int64_t global_batch = 64;
    std::int64_t virtual_workers = 0;
    std::vector<double> shares;
    bool measure_shares = false;
    std::string precision = "f32";
    double loss_scale = 65536;
    std::int64_t loss_scale_growth_steps = 2000;
    bool stochastic_rounding = false;
    std::string loss = "auto";
    double label_smoothing = 0.0;
    double z_loss = 0.0;
    std::int64_t seed = 1;
    std::int64_t threads = 0;
    double clip_norm = 0.0;
    double clip_value = 0.0;
    std::string on_nonfinite = "stop";
    std::int64_t max_skipped_steps = 10;
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
    std::int64_t newton_schulz_steps = 5;
    double adamw_lr_factor = 0.015;

    /// Parameters that are updated in another way; the first group that matches one wins.
    struct Group {
      std::string match;     ///< a pattern on names, as in "blocks.*.bias"; empty: all
      std::string kind;      ///< "bias", "norm", ...; empty: all
      std::string rule;      ///< "muon" or "adamw"; empty: by kind
      double lr_factor = 1;  ///< learning rate / that without the group
      std::optional<double> weight_decay;  ///< unset: optimizer.weight_decay
      std::vector<double> betas;           ///< empty: optimizer.betas
      bool trainable = true;
    };
    std::vector<Group> groups;
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
    std::int64_t shard = 0;
    std::string shard_within = "world";
    std::int64_t bucket_bytes = 1 << 20;
    std::string recompute = "none";
    bool pin = true;
  } parallelism;

  /// One section in the file, of which each part is for one thing.
  struct Communication {
    /// When ranks wait for each other.
    struct Consistency {
      std::string mode = "synchronous";
      std::string hybrid = "local_sgd";
      std::int64_t staleness = 3;
      std::int64_t backup_workers = 1;
      std::int64_t local_steps = 16;
      std::int64_t group_size = 1;
      double outer_lr = 0.7;
      double outer_momentum = 0.9;
      std::int64_t fragments = 1;
      std::int64_t delay = 0;
      double mix = 0.5;
    } consistency;

    /// Where parameter servers are, and the keys that they are known by.
    struct Servers {
      std::int64_t server_shards = 1;
      std::vector<std::string> servers;
      std::int64_t replicas = 0;
      std::string secret_key;
      std::vector<std::string> server_keys;
    } servers;

    /// How gradients are made smaller.
    struct Compression {
      std::string compression = "none";
      double compression_ratio = 0.01;
      std::int64_t compression_rank = 2;
    } compression;

    /// How ranks are connected.
    struct Transport {
      std::string backend = "auto";
      bool reproducible = true;
      std::string interface;
      double timeout = 1800;
      double heartbeat_timeout = 30;
    } transport;
  } communication;

  struct Evaluation {
    std::int64_t every_epochs = 1;
    std::int64_t every_steps = 0;
    std::int64_t batch = 256;
    std::string metric = "loss";
  } evaluation;

  struct Metrics {
    std::int64_t every_steps = 50;
  } metrics;

  struct Checkpoint {
    std::int64_t every_steps = 0;
    std::int64_t keep = 2;
    std::int64_t keep_every = 0;
    std::int64_t keep_best = 0;
    std::string mirror;
    bool background = false;
    std::int64_t model_file_bytes = 0;
  } checkpoint;

  /// Who has set a key, and where ("run.toml:14:9", "command line").
  struct Origin {
    enum class Source { kFile, kRunDirectory, kCommandLine };
    Source source = Source::kFile;
    std::string where;
  };
  /// Of each key that has been read. Code that changes a value need not change this.
  std::map<std::string, Origin> origins;
};

/// What `trireme keys` lists of one key.
struct KeyDescription {
  std::string name;           ///< "optimizer.lr"
  std::string type;           ///< "number", "integer", "text", "duration", ...
  std::string default_value;  ///< as TOML
  std::string meaning;        ///< with unit and what is allowed
  std::string used_with;      ///< "optimizer.name = \"adam\""; empty: always
  bool may_differ = false;    ///< between the hosts of a run
};

std::vector<KeyDescription> config_keys();

/// Reads `path` (empty: only defaults), then `overrides`, each "section.key=value" with a TOML
/// value (quotes around text may be left out). Throws UsageError `fashion.toml:14:9: optimizer.lr
/// must be a positive number, got "fast"`. The error for an unknown key names the nearest known
/// one; the error for an old name of a key or a value names the new one. Throws DataError if the
/// file cannot be read.
Config read_config(const std::filesystem::path& path, std::span<const std::string> overrides,
                   Files& files = real_files());

/// Reads the configuration that an earlier run has written: old names are replaced by new ones, and
/// keys of the file that the overrides make useless are no error. Throws DataError if `path` is no
/// file.
Config read_run_config(const std::filesystem::path& path, std::span<const std::string> overrides,
                       Files& files = real_files());

/// Like read_config(), but reads the text `toml`, which errors call `source`.
Config parse_config(const std::string& toml, const std::string& source,
                    std::span<const std::string> overrides,
                    Config::Origin::Source kind = Config::Origin::Source::kFile);

/// Returns `config` with the relative paths of its files, but not run.directory, taken from
/// `folder`.
Config with_absolute_paths(Config config, const std::filesystem::path& folder);

/// Throws UsageError for a value that its key may not have, as read_config() does. For
/// configurations that code has made.
void check_values(const Config& config);

/// Returns the configuration as TOML: every key that `config` uses, with its value. The text reads
/// back as a Config that writes the same text.
std::string to_toml(const Config& config);

}  // namespace trireme
