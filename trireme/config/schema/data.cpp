#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

namespace {

void add_csv(const KeyAdder& add, Config::Data& c) {
  const auto csv = [&](const char* name, ConfigKey::Target value, const char* meaning,
                       ConfigKey::Rule rule) -> ConfigKey& {
    return add(name, value, meaning, std::move(rule)).used_with("data.format", {"csv"});
  };
  csv("target", &c.target, "the column to predict", anything());
  csv("features", &c.features,
      "the columns to predict from, names or patterns with * and ?; empty: all others of numbers",
      anything());
  csv("categorical", &c.categorical,
      "columns, names or patterns, of which each value becomes an input of 0 or 1", anything());
  csv("ignore", &c.ignore, "columns, names or patterns, that are not used", anything());
  csv("task", &c.task, "whether the target is a number or a class; auto: the model decides",
      one_of({"auto", "regression", "classification"}));
  csv("missing", &c.missing,
      "a missing value is an error, drops its row, or gets the mean of the training rows",
      one_of({"error", "drop", "mean"}));
  csv("na_values", &c.na_values,
      "texts that stand for a missing value, as an empty field does; not in a column of labels",
      anything());
  csv("delimiter", &c.delimiter, "the separator; auto: found in the first line",
      one_of({"auto", ",", ";", "\t", " ", "|"}));
  csv("decimal", &c.decimal, "the decimal separator of numbers", one_of({".", ","}));
  csv("thousands", &c.thousands, "what separates groups of three digits; empty: nothing",
      one_of({"", ",", ".", " ", "'", "_"}));
  csv("header", &c.header, "whether the first line names the columns; if not, they are 1, 2, ...",
      anything());
}

void add_path(const KeyAdder& add, Config::Data& c) {
  add("path", &c.path,
      "the training file; csv and text may be .gz files; text without a file is generated from the "
      "seed",
      anything())
      .used_with("data.format", {"csv", "text", "tokens"})
      .names_files();
}

void add_text(const KeyAdder& add, Config::Data& c) {
  const auto text = [&](const char* name, ConfigKey::Target value, const char* meaning,
                        ConfigKey::Rule rule) -> ConfigKey& {
    return add(name, value, meaning, std::move(rule)).used_with("data.format", {"text"});
  };
  text("tokenizer", &c.tokenizer,
       "characters: those of the text; bytes; or a file, a tokenizer.json of Hugging Face or a "
       "table "
       "of tiktoken",
       anything())
      .names_files({"characters", "bytes"});
  text("documents", &c.documents,
       "what a document is, across whose end a model does not look: the file, a line, or an object "
       "of JSON lines",
       one_of({"file", "line", "jsonl"}));
  text("field", &c.field, "of JSON lines: the field that holds the text", anything())
      .used_with("data.documents", {"jsonl"});
  text("prompt_field", &c.prompt_field,
       "of JSON lines: a field that is read before the text and not trained on; empty: none",
       anything())
      .used_with("data.documents", {"jsonl"});
  text("not_utf8", &c.not_utf8, "bytes that are not UTF-8 are an error, or become U+FFFD",
       one_of({"error", "replace"}));
}

void add_idx(const KeyAdder& add, Config::Data& c) {
  const auto idx = [&](const char* name, ConfigKey::Target value, const char* meaning) {
    add(name, value, meaning, anything()).used_with("data.format", {"idx"}).names_files();
  };
  idx("images", &c.images, "the images, which may be a .gz file");
  idx("labels", &c.labels, "the labels of the images");
  add("pad_to", &c.pad_to,
      "side, in pixels, to which images get a black border, the image in the middle; 0: none",
      up_to(1 << 16))
      .used_with("data.format", {"idx"});
}

void add_test(const KeyAdder& add, Config::Data& c) {
  add("test_path", &c.test_path, "a file to evaluate on", anything())
      .used_with("data.format", {"csv", "text", "tokens"})
      .names_files();
  add("test_images", &c.test_images, "images to evaluate on", anything())
      .used_with("data.format", {"idx"})
      .names_files();
  add("test_labels", &c.test_labels, "the labels of these images", anything())
      .used_with("data.format", {"idx"})
      .names_files();
}

void add_linear_model(const KeyAdder& add, Config::Data& c) {
  add("samples", &c.samples, "number of generated samples", positive_up_to(kMaxSamples))
      .used_with("data.format", {"linear_model"});
  add("features_count", &c.features_count, "inputs of a generated sample",
      positive_up_to(kMaxWidth))
      .used_with("data.format", {"linear_model"});
  add("noise", &c.noise, "standard deviation of the noise", not_negative())
      .used_with("data.format", {"linear_model"});
}

}  // namespace

void add_keys(std::vector<ConfigKey>& keys, Config::Data& c) {
  const KeyAdder add{keys, "data."};
  add("format", &c.format,
      "csv: a table; idx: images as MNIST has them; text; tokens: what `trireme tokenize` has "
      "written; linear_model is generated from the seed and needs no file",
      one_of({"csv", "idx", "text", "tokens", "linear_model"}));
  add_path(add, c);
  add_csv(add, c);
  add_text(add, c);
  add("standardize", &c.standardize,
      "scale features to mean 0 and variance 1, computed over the training samples of all ranks",
      anything())
      .used_with("data.format", {"csv", "idx", "linear_model"});
  add("standardize_target", &c.standardize_target, "the same for a regression target", anything())
      .used_with("data.format", {"csv", "idx", "linear_model"});
  add_idx(add, c);
  add_test(add, c);
  add_linear_model(add, c);
  add("holdout", &c.holdout,
      "fraction of the samples that is held back for evaluation, chosen by the seed; of a text its "
      "last part, or some of many documents",
      fraction());
  add("sampler", &c.sampler,
      "random: a new permutation each epoch; block: each virtual worker reads a part of its own; "
      "sequential: in order, one sample to each virtual worker in turn",
      one_of({"random", "block", "sequential"}));
  add("drop_last", &c.drop_last, "skip the last, smaller batch of an epoch", anything());
  add("prefetch_steps", &c.prefetch_steps,
      "steps that a thread reads ahead; 0: no thread; -1: 64 if a core is free, else 0",
      at_least(-1))
      .may_differ_between_hosts();
}

}  // namespace trireme
