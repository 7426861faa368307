#include "trireme/train/data_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/data/csv_dataset.h"
#include "trireme/data/generated_text.h"
#include "trireme/data/idx_dataset.h"
#include "trireme/data/linear_model_dataset.h"
#include "trireme/data/subset.h"
#include "trireme/data/tensor_dataset.h"
#include "trireme/formats/tokenize_text.h"
#include "trireme/train/components.h"

namespace trireme {

namespace {

// Generated samples are computed once if they fit in this.
constexpr std::int64_t kInMemoryBytes = std::int64_t{1} << 30;

// Of text where there is none.
constexpr std::int64_t kGeneratedBytes = 1'000'000;

DocumentOptions document_options(const Config::Data& data) {
  DocumentOptions options{
      .field = data.field,
      .prompt_field = data.prompt_field,
      .not_utf8 = data.not_utf8 == "replace" ? NotUtf8::kReplace : NotUtf8::kError};
  if (data.documents == "line") options.unit = DocumentUnit::kLine;
  if (data.documents == "jsonl") options.unit = DocumentUnit::kJsonLine;
  return options;
}

MissingValues missing_values_of(const std::string& name) {
  if (name == "drop") return MissingValues::kDrop;
  return name == "mean" ? MissingValues::kKeep : MissingValues::kError;
}

class DataSetBuilder {
 public:
  DataSetBuilder(const Config& config, const plan::RunPlan& plan, Communicator& world,
                 const ReductionTree& tree)
      : config_(config), dtype_(plan.precision.storage), world_(world), tree_(tree) {}

  DataSets build() {
    if (config_.data.format == "csv") {
      open_csv();
    } else if (config_.data.format == "idx") {
      open_idx();
    } else if (config_.data.format == "text") {
      open_text();
    } else if (config_.data.format == "tokens") {
      open_tokens();
    } else {
      open_linear_model();
    }
    if (sets_.evaluation != nullptr) require_same_shape();
    sets_.digest = digest_of_data(config_);
    if (config_.data.holdout > 0 && sets_.evaluation == nullptr) hold_out_samples();
    sets_.sampler = make_sampler(config_.data.sampler, sampler_options(sets_.train->size()));
    if (prepares()) prepare();
    return std::move(sets_);
  }

 private:
  template <class T>
  const T* own(T dataset) {
    auto owner = std::make_unique<T>(std::move(dataset));
    const T* borrowed = owner.get();
    sets_.owned.push_back(std::move(owner));
    return borrowed;
  }

  SamplerOptions sampler_options(std::int64_t samples) const {
    return {.samples = samples,
            .global_batch = config_.training.global_batch,
            .virtual_workers = tree_.virtual_workers(),
            .seed = static_cast<std::uint64_t>(config_.training.seed),
            .drop_last = config_.data.drop_last};
  }

  CsvDatasetOptions csv_options() const {
    const Config::Data& data = config_.data;
    CsvDatasetOptions options{
        .path = data.path,
        .columns = {.target = data.target,
                    .features = data.features,
                    .categorical = data.categorical,
                    .ignored = data.ignore,
                    .classify = classifies(config_),
                    .missing = missing_values_of(data.missing)},
        .format = {.delimiter = data.delimiter == "auto" ? '\0' : data.delimiter[0],
                   .header = data.header,
                   .numbers = {data.decimal[0], data.thousands.empty() ? '\0' : data.thousands[0]},
                   .missing = data.na_values},
        .dtype = dtype_};
    if (prepares()) {
      // Filled and scaled in f64, then narrowed.
      if (!data.standardize) options.narrowed_inputs = options.dtype;
      if (!data.standardize_target) options.narrowed_targets = options.dtype;
      options.dtype = DType::kF64;
    }
    return options;
  }

  void open_csv() {
    const Config::Data& data = config_.data;
    CsvDatasetOptions options = csv_options();
    options.schema = csv_schema(options.path, options.format, options.columns);
    if (data.sampler == "block" && data.holdout == 0) {
      const auto sampler = block_sampler(sampler_options(options.schema->rows));
      options.rows = sampler->rows_of(tree_.virtual_workers_of(world_.rank()));
    }
    sets_.train = own(CsvDataset(options));
    sets_.schema = options.schema;
    if (data.test_path.empty()) return;
    CsvDatasetOptions test = options;
    test.path = data.test_path;
    test.rows.reset();
    sets_.evaluation = own(CsvDataset(test));
  }

  void open_idx() {
    const Config::Data& data = config_.data;
    const auto* train =
        own(IdxDataset({.images = data.images, .labels = data.labels, .pad_to = data.pad_to}));
    sets_.train = train;
    if (data.test_images.empty()) return;
    sets_.evaluation = own(IdxDataset({.images = data.test_images,
                                       .labels = data.test_labels,
                                       .classes = train->target().classes,
                                       .pad_to = data.pad_to}));
  }

  // A part of a text is held back before it is cut into samples.
  void open_text() {
    const Config::Data& data = config_.data;
    TokenizeOptions options{.documents = document_options(data), .holdout = data.holdout};
    if (data.path.empty()) {
      const auto seed = static_cast<std::uint64_t>(config_.training.seed);
      const TextSource source =
          text_in_memory("generated text", generated_text(seed, kGeneratedBytes));
      return use_tokens(tokenize_text({source}, data.tokenizer, options));
    }
    TokenizedText text = tokenize_text({text_file(data.path)}, data.tokenizer, options);
    if (data.test_path.empty()) return use_tokens(std::move(text));
    const auto tokenizer = tokenizer_from_json(text.training.tokenizer_json());
    text.validation = tokenize_text({text_file(data.test_path)}, *tokenizer, options).training;
    use_tokens(std::move(text));
  }

  void open_tokens() {
    const Config::Data& data = config_.data;
    TokenizedText text{.training = TokenFile(data.path)};
    if (!data.test_path.empty()) {
      text.validation = TokenFile(data.test_path);
      if (text.training.tokenizer_digest() != text.validation->tokenizer_digest()) {
        throw DataError(fmt::format(
            "data.test_path: {} must be made by the tokenizer of {}, and is made by another one",
            data.test_path, data.path));
      }
    }
    use_tokens(std::move(text));
  }

  void use_tokens(TokenizedText text) {
    const std::int64_t context = config_.model.context;
    sets_.tokenizer = text.training.tokenizer_json();
    sets_.train = own(TokenDataset(std::make_shared<TokenFile>(std::move(text.training)), context));
    if (!text.validation) return;
    const TokenDataset* const evaluation =
        own(TokenDataset(std::make_shared<TokenFile>(std::move(*text.validation)), context));
    sets_.evaluation = evaluation;
    sets_.evaluation_bytes = evaluation->counted_bytes();
  }

  void open_linear_model() {
    const Config::Data& data = config_.data;
    LinearModelDataset generated({.samples = data.samples,
                                  .features = data.features_count,
                                  .seed = static_cast<std::uint64_t>(config_.training.seed),
                                  .noise = data.noise,
                                  .dtype = dtype_});
    const auto bytes =
        data.samples * data.features_count * static_cast<std::int64_t>(size_of(dtype_));
    if (bytes <= kInMemoryBytes) {
      sets_.train = own(in_memory(generated));
    } else {
      sets_.train = own(std::move(generated));
    }
  }

  // The classes and columns of a test file are those of the training file, or it cannot be opened.
  void require_same_shape() const {
    const auto wanted = sets_.train->input_shape(), has = sets_.evaluation->input_shape();
    if (wanted == has) return;
    throw DataError(
        fmt::format("data.test_images: a sample of {} must be [{}], as in {}, but is [{}]",
                    config_.data.test_images, fmt::join(wanted, ", "), config_.data.images,
                    fmt::join(has, ", ")));
  }

  void hold_out_samples() {
    require_both_parts(sets_.train->size());
    Split split = hold_out(*sets_.train, config_.data.holdout,
                           static_cast<std::uint64_t>(config_.training.seed));
    sets_.train = own(std::move(split.train));
    sets_.evaluation = own(std::move(split.held_out));
  }

  void require_both_parts(std::int64_t samples) const {
    const double share = config_.data.holdout;
    const auto held_out = std::llround(share * static_cast<double>(samples));
    if (held_out > 0 && held_out < samples) return;
    throw UsageError(fmt::format(
        "data.holdout must leave samples to train on and samples to evaluate on, got {} of {}",
        share, samples));
  }

  bool fills_missing() const {
    return config_.data.format == "csv" && config_.data.missing == "mean";
  }

  // Are samples changed by what the training samples are like?
  bool prepares() const {
    return config_.data.standardize || config_.data.standardize_target || fills_missing();
  }

  void prepare() {
    Standardization statistics = standardization_of(
        *sets_.train, world_, tree_,
        {.targets = config_.data.standardize_target, .fill_missing = fills_missing()});
    if (!config_.data.standardize) {
      std::fill(statistics.mean.begin(), statistics.mean.end(), 0.0);
      std::fill(statistics.deviation.begin(), statistics.deviation.end(), 1.0);
    }
    sets_.train = own(prepared(*sets_.train, statistics));
    if (sets_.evaluation != nullptr) {
      sets_.evaluation = own(prepared(*sets_.evaluation, statistics));
      require_finite(*sets_.evaluation);
    }
    sets_.statistics = std::move(statistics);
  }

  // Values far from those of the training samples may not fit once they are standardized.
  void require_finite(const Dataset& evaluation) const {
    constexpr std::int64_t kAtATime = 4096;
    for (std::int64_t first = 0; first < evaluation.size(); first += kAtATime) {
      std::vector<std::int64_t> indices(
          static_cast<std::size_t>(std::min(kAtATime, evaluation.size() - first)));
      std::iota(indices.begin(), indices.end(), first);
      const Batch batch = evaluation.batch(indices);
      at::Tensor good = batch.input.flatten(1).isfinite().all(1);
      if (evaluation.target().is_numbers()) good = good & batch.target.isfinite().all(1);
      if (good.all().item<bool>()) continue;
      throw DataError(fmt::format(
          "sample {} of the evaluation data (counted from 0) does not fit {} once it is "
          "standardized as the training samples are; correct it, or train in f64",
          first + good.to(at::kByte).argmin().item<std::int64_t>(), name_of(dtype_)));
    }
  }

  TensorDataset prepared(const Dataset& dataset, const Standardization& statistics) const {
    return in_memory(StandardizedDataset(dataset, statistics, scalar_type_of(dtype_)));
  }

  const Config& config_;
  DType dtype_;
  Communicator& world_;
  const ReductionTree& tree_;
  DataSets sets_;
};

}  // namespace

DataSets open_data(const Config& config, const plan::RunPlan& plan, Communicator& world,
                   const ReductionTree& tree) {
  return DataSetBuilder(config, plan, world, tree).build();
}

}  // namespace trireme
