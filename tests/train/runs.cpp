#include "tests/train/runs.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/formats/safetensors.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme::test {

namespace {

Words default_words() {
  return {"data.samples=200",
          "data.features_count=7",
          "data.holdout=0.1",
          "training.global_batch=24",
          "training.virtual_workers=12",
          "training.steps=40",
          "optimizer.name=adam",
          "optimizer.lr=0.02"};
}

at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.info(name);
  at::Tensor tensor = at::empty(info.shape, scalar_type_of(info.dtype));
  file.read(name, buffer_of(tensor));
  return tensor;
}

}  // namespace

void Recorder::on_start(const RunDescription& description) {
  start = description;
  has_started = true;
  threads = at::get_num_threads();
}

bool Recorder::stop_requested() {
  const std::int64_t step = (steps.empty() ? start.first_step : steps.back().step) + 1;
  return step == stop_in_step_;
}

Runs::Runs(Words words) : words_(words.empty() ? default_words() : std::move(words)) {}

Config Runs::config(const std::string& run, const Words& words) const {
  const Words own = {"training.threads=1", "metrics.every_steps=1",
                     "run.directory=" + (*this / run).string()};
  // As a file and a command line: what the words make unused of the file's keys is dropped.
  return parse_config(to_toml(parse_config("", "test", own + words_)), "test", words);
}

Outcome Runs::run(const Config& config, int ranks, const TrainOptions& options, StopRequest stop) {
  Outcome outcome;
  outcome.summaries.resize(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    outcome.ranks.emplace_back(stop.rank == -1 || rank == stop.rank ? stop.step : 0);
  }
  on_ranks(ranks, [&](Communicator& world) {
    const auto rank = static_cast<std::size_t>(world.rank());
    outcome.summaries[rank] = trireme::train(config, world, outcome.ranks[rank], options);
  });
  return outcome;
}

void Runs::on_ranks(int ranks, const std::function<void(Communicator&)>& body) const {
  if (ranks_a_host_ == 0) return run_ranks(ranks, body);
  if (ranks_a_host_ == 1) return run_ranks_over_messages(ranks, body);
  run_ranks_on_hosts(
      ranks, [this](int rank) { return rank / ranks_a_host_; }, body);
}

Outcome Runs::train(const std::string& run, int ranks, const Words& words, StopRequest stop) {
  return this->run(config(run, words), ranks, {}, stop);
}

Outcome Runs::resume(const std::string& run, int ranks, const Words& words, StopRequest stop,
                     std::optional<std::int64_t> step) {
  return this->run(config(run, words), ranks, {.resume = true, .step = step}, stop);
}

Outcome Runs::resume_on_changed_data(const std::string& run, int ranks, const Words& words) {
  return this->run(config(run, words), ranks, {.resume = true, .allow_changed_data = true}, {});
}

std::vector<std::string> Runs::errors(const std::string& run, int ranks, const Words& words) {
  const Config config = this->config(run, words);
  std::vector<std::string> errors(static_cast<std::size_t>(ranks));
  on_ranks(ranks, [&](Communicator& world) {
    Recorder recorder;
    std::string& error = errors[static_cast<std::size_t>(world.rank())];
    try {
      trireme::train(config, world, recorder);
      error = "no error";
    } catch (const DivergedError& caught) {
      error = std::string("diverged: ") + caught.what();
    } catch (const std::exception& caught) {
      error = caught.what();
    }
  });
  return errors;
}

void Runs::copy_until(const std::string& run, const std::string& copy, std::int64_t step) {
  std::filesystem::remove_all(*this / copy);
  std::filesystem::copy(*this / run, *this / copy, std::filesystem::copy_options::recursive);
  std::filesystem::remove(*this / copy / "model.safetensors");
  std::vector<std::filesystem::path> later;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(*this / copy / "checkpoints")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && std::stoll(name.substr(5)) > step) {
      later.push_back(entry.path());
    }
  }
  for (const auto& path : later) std::filesystem::remove_all(path);
}

std::string Runs::model(const std::string& run) const {
  return read_file(*this / run / "model.safetensors");
}

std::map<std::string, at::Tensor> Runs::tensors(const std::string& run) const {
  const SafetensorsFile file(*this / run / "model.safetensors");
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& name : file.names()) tensors.emplace(name, tensor_of(file, name));
  return tensors;
}

std::set<std::int64_t> Runs::checkpoints(const std::string& run) const {
  std::set<std::int64_t> steps;
  for (const auto& entry : std::filesystem::directory_iterator(*this / run / "checkpoints")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-")) steps.insert(std::stoll(name.substr(5)));
  }
  return steps;
}

std::set<std::string> Runs::tensors_of_checkpoint(const std::string& run, std::int64_t step) const {
  const auto folder = *this / run / "checkpoints" / fmt::format("step-{}", step);
  std::set<std::string> names;
  for (const auto& [name, shape] : trireme::tensors_of_checkpoint(folder)) names.insert(name);
  return names;
}

std::vector<std::string> Runs::metrics(const std::string& run) const {
  std::istringstream in(read_file(*this / run / "metrics.jsonl"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace trireme::test
