#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/chunk_files.h"
#include "trireme/checkpoint/condition.h"
#include "trireme/checkpoint/retention.h"
#include "trireme/cli/checkpoint_command.h"
#include "trireme/cli/terminal.h"
#include "trireme/train/checkpointer.h"

namespace trireme::cli {

namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct Listed {
  std::int64_t step = 0;
  fs::path path;
  std::string written;               // when
  std::optional<Manifest> manifest;  // none: it cannot be read
  std::vector<std::string> damage;
  std::vector<std::string> kept_as;  // empty: its run does not say

  std::int64_t bytes() const {
    std::int64_t sum = 0;
    if (manifest) {
      for (const Manifest::File& file : manifest->files) sum += file.bytes;
    }
    return sum;
  }
};

std::string time_of(const fs::path& file) {
  const auto time = std::chrono::file_clock::to_sys(fs::last_write_time(file));
  return fmt::format("{:%FT%TZ}", std::chrono::floor<std::chrono::seconds>(time));
}

Listed listed(std::int64_t step, const fs::path& path) {
  Listed one{.step = step, .path = path, .damage = damage_by_size(path)};
  one.written = time_of(path / "manifest.json");
  try {
    one.manifest = read_manifest(path, real_files());
  } catch (const DataError&) {
    // Part of the damage.
  }
  return one;
}

// Of the newest checkpoint that says it.
std::optional<Retention> retention_of(const std::vector<Listed>& all) {
  for (auto one = all.rbegin(); one != all.rend(); ++one) {
    if (!one->manifest) continue;
    if (const auto config = config_of_checkpoint(one->manifest->state, one->path.string())) {
      return trireme::retention_of(*config);
    }
  }
  return std::nullopt;
}

std::string text_of(KeptAs reason, const Retention& retention) {
  switch (reason) {
    case KeptAs::kNewest:
      return "newest";
    case KeptAs::kEvery:
      return fmt::format("every {}", with_commas(retention.every_steps, "step"));
    case KeptAs::kBest:
      return "best " + retention.metric;
  }
  return "";
}

void note_reasons(const Retention& retention, std::vector<Listed>& all) {
  MetricsByStep metrics;
  for (const Listed& one : all) {
    metrics[one.step] =
        one.manifest ? metric_of(one.manifest->state, retention.metric) : std::nullopt;
  }
  const auto kept = kept_checkpoints(retention, metrics);
  for (Listed& one : all) {
    const auto reasons = kept.find(one.step);
    if (reasons == kept.end()) continue;
    for (const KeptAs reason : reasons->second) one.kept_as.push_back(text_of(reason, retention));
  }
}

std::string metric_text(const Listed& one, const std::string& metric) {
  const auto value = one.manifest ? metric_of(one.manifest->state, metric) : std::nullopt;
  return value ? fmt::format("{} {:.6g}", metric, *value) : "-";
}

void print(const std::vector<Listed>& all, const std::string& metric) {
  std::cout << fmt::format("{:>10}  {:<20}  {:>14}  {:<8}  {:<20}  kept as\n", "step", "written",
                           "bytes", "files", "evaluation");
  for (const Listed& one : all) {
    std::cout << fmt::format(
        "{:>10}  {:<20}  {:>14}  {:<8}  {:<20}  {}\n", one.step, one.written,
        with_commas(one.bytes()), one.damage.empty() ? "whole" : "DAMAGED",
        metric_text(one, metric),
        one.kept_as.empty() ? "-" : fmt::format("{}", fmt::join(one.kept_as, ", ")));
    for (const std::string& sentence : one.damage)
      std::cout << "            " << shown(sentence) << '\n';
  }
}

ordered_json to_json(const Listed& one) {
  ordered_json json = {
      {"step", one.step},       {"path", one.path.string()},           {"written", one.written},
      {"bytes", one.bytes()},   {"whole", one.damage.empty()},         {"damage", one.damage},
      {"kept_as", one.kept_as}, {"evaluation", ordered_json::object()}};
  if (!one.manifest) return json;
  const auto section = one.manifest->state.sections.find(sections::kEvaluation);
  if (section == one.manifest->state.sections.end()) return json;
  for (const auto& [name, value] : section->second) {
    json["evaluation"][name] = std::visit([](const auto& v) { return ordered_json(v); }, value);
  }
  return json;
}

}  // namespace

void add_checkpoint_list(CLI::App& checkpoint, int& exit_code) {
  struct Arguments {
    std::string path;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = checkpoint.add_subcommand(
      "list", "List the checkpoints of a run, with their sizes checked; verify reads them");
  command->add_option("PATH", arguments->path, "a run directory or a directory of checkpoints")
      ->required();
  command->add_flag("--json", arguments->json, "as JSON");
  command->callback([arguments, &exit_code] {
    const fs::path path = arguments->path;
    if (real_files().kind_of(path) != FileKind::kDirectory) {
      throw DataError(fmt::format(
          "{}: must be a run directory or a directory of checkpoints, is none", path.string()));
    }
    std::vector<Listed> all;
    for (const auto& [step, folder] : checkpoints_in(path)) all.push_back(listed(step, folder));
    const std::optional<Retention> retention = retention_of(all);
    if (retention) note_reasons(*retention, all);
    if (arguments->json) {
      ordered_json json = {{"path", path.string()}, {"checkpoints", ordered_json::array()}};
      for (const Listed& one : all) json["checkpoints"].push_back(to_json(one));
      std::cout << json_text(json);
    } else if (all.empty()) {
      std::cout << fmt::format("{}: no checkpoint is complete\n", shown(path.string()));
    } else {
      print(all, retention ? retention->metric : "loss");
    }
    exit_code = 0;
  });
}

}  // namespace trireme::cli
