#include "tests/train/runs.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "tests/comm/ranks.h"
#include "trireme/base/files.h"
#include "trireme/base/random.h"
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

void write_idx(const std::filesystem::path& path, const std::vector<std::uint32_t>& shape,
               const std::string& bytes) {
  std::string file = {'\0', '\0', '\x08', static_cast<char>(shape.size())};
  for (const std::uint32_t extent : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(extent >> shift);
  }
  write_file_atomically(path, file + bytes);
}

at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.info(name);
  at::Tensor tensor = at::empty(info.shape, scalar_type_of(info.dtype));
  file.read(name, buffer_of(tensor));
  return tensor;
}

}  // namespace

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Words strategy(const std::string& name) {
  return {"parallelism.strategy=" + name};
}

Words local_sgd() {
  return {"communication.mode=hybrid", "communication.local_steps=8"};
}

Words diloco() {
  return local_sgd() + Words{"communication.hybrid=diloco"};
}

Words streaming_diloco() {
  return diloco() + Words{"communication.fragments=3", "communication.delay=2"};
}

Words diloco_in_pairs() {
  return diloco() + Words{"communication.group_size=2"};
}

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
  return parse_config("", "test", own + words_ + words);
}

Outcome Runs::run(const Config& config, int ranks, bool resume, StopRequest stop) {
  Outcome outcome;
  outcome.summaries.resize(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    outcome.ranks.emplace_back(rank == stop.rank ? stop.step : 0);
  }
  run_ranks(ranks, [&](Communicator& world) {
    const auto rank = static_cast<std::size_t>(world.rank());
    outcome.summaries[rank] = trireme::train(config, world, outcome.ranks[rank], resume);
  });
  return outcome;
}

Outcome Runs::train(const std::string& run, int ranks, const Words& words, StopRequest stop) {
  return this->run(config(run, words), ranks, false, stop);
}

Outcome Runs::resume(const std::string& run, int ranks, const Words& words, StopRequest stop) {
  return this->run(config(run, words), ranks, true, stop);
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
  return trireme::tensors_of_checkpoint(*this / run / "checkpoints" / fmt::format("step-{}", step));
}

std::vector<std::string> Runs::metrics(const std::string& run) const {
  std::istringstream in(read_file(*this / run / "metrics.jsonl"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

void write_table(const std::filesystem::path& path, int rows) {
  std::string table = "x0,x1,x2,y\n";
  for (int row = 0; row < rows; ++row) {
    const auto number = [row](int factor) { return (row * factor % 11 - 5) / 4.0; };
    table += fmt::format("{},{},{},{}\n", number(3), number(5), number(7), number(2) + row % 3);
  }
  write_file_atomically(path, table);
}

void write_images(const std::filesystem::path& folder, std::uint32_t count) {
  constexpr std::uint32_t kSide = 8;
  const CounterRandom random(5);
  std::string pixels, labels;
  for (std::uint32_t i = 0; i < count; ++i) {
    labels += static_cast<char>(i % 3);
    for (std::uint32_t p = 0; p < kSide * kSide; ++p) {
      const bool lit = p / kSide % 3 == i % 3;
      pixels += static_cast<char>(random.words(i * kSide * kSide + p)[0] % 100 + (lit ? 100 : 0));
    }
  }
  write_idx(folder / "images", {count, kSide, kSide}, pixels);
  write_idx(folder / "labels", {count}, labels);
}

}  // namespace trireme::test
