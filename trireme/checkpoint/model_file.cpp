#include "trireme/checkpoint/model_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/pattern.h"
#include "trireme/checkpoint/manifest.h"
#include "trireme/checkpoint/model_parts.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/safetensors.h"
#include "trireme/formats/safetensors_index.h"
#include "trireme/formats/safetensors_model.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

// A tensor of the model with all of its names.
struct Wanted {
  at::Tensor tensor;
  std::vector<std::string> names;
};

std::vector<Wanted> by_tensor(const NamedTensors& model) {
  std::vector<Wanted> all;
  std::map<const void*, std::size_t> place;
  for (const auto* group : {&model.parameters, &model.buffers}) {
    for (const auto& [name, tensor] : *group) {
      const auto [known, is_new] = place.try_emplace(tensor.unsafeGetTensorImpl(), all.size());
      if (is_new) all.push_back({tensor, {}});
      all[known->second].names.push_back(name);
    }
  }
  return all;
}

// What of the file goes into the model.
struct Plan {
  std::vector<std::pair<Wanted, std::vector<std::string>>> reads;  // names in the file
  LoadedModel left_out;
};

// The name of a tensor of the model in the file; empty: it is not there.
std::string name_in_file(const std::string& name, const SafetensorsFiles& file,
                         const LoadModelOptions& options) {
  if (file.contains(name)) return name;
  for (const std::string& prefix : options.prefixes) {
    if (file.contains(prefix + name)) return prefix + name;
  }
  return "";
}

Plan plan(const NamedTensors& model, const SafetensorsFiles& file,
          const LoadModelOptions& options) {
  Plan plan;
  std::set<std::string> known;
  for (Wanted& wanted : by_tensor(model)) {
    std::vector<std::string> there;
    for (const std::string& name : wanted.names) {
      std::string found = name_in_file(name, file, options);
      if (found.empty()) continue;
      known.insert(found);
      there.push_back(std::move(found));
    }
    if (there.empty()) {
      plan.left_out.missing.push_back(wanted.names.front());
    } else {
      plan.reads.emplace_back(std::move(wanted), std::move(there));
    }
  }
  for (std::string& name : file.names()) {
    const bool is_ignored = std::ranges::any_of(options.ignored, [&](const std::string& pattern) {
      return matches_pattern(name, pattern);
    });
    if (!is_ignored && !known.contains(name)) {
      plan.left_out.unexpected.push_back(std::move(name));
    }
  }
  return plan;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i > 0 ? ", " : "") + printable(names[i]);
  }
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

void require_complete(const fs::path& path, const LoadedModel& left_out) {
  if (left_out.missing.empty() && left_out.unexpected.empty()) return;
  std::string what;
  if (!left_out.missing.empty()) what = "has no tensor " + listed(left_out.missing);
  if (!left_out.unexpected.empty()) {
    what += fmt::format("{}has {}, which the model does not have", what.empty() ? "" : ", and ",
                        listed(left_out.unexpected));
  }
  throw UsageError(
      fmt::format("{}: the file must hold the tensors of the model, but it {}; load it into the "
                  "model that it was saved from, or without LoadModelOptions::strict",
                  path.string(), what));
}

bool holds(at::ScalarType type, at::ScalarType stored) {
  if (type == stored) return true;
  const bool are_floating = at::isFloatingType(type) && at::isFloatingType(stored);
  return are_floating && at::promote_types(type, stored) == type;
}

void require_fit(const fs::path& path, const at::Tensor& tensor, const TensorInfo& info) {
  const at::Tensor stored = stored_view(tensor.detach());
  if (stored.sizes() == at::IntArrayRef(info.shape) &&
      holds(stored.scalar_type(), scalar_type_of(info.dtype))) {
    return;
  }
  throw UsageError(fmt::format("{}: tensor {} is {} in the file and {} in the model", path.string(),
                               printable(info.name), describe(info.dtype, info.shape),
                               describe(dtype_of(stored.scalar_type()), stored.sizes())));
}

void require_equal(const fs::path& path, const SafetensorsFiles& file,
                   const std::vector<std::string>& names) {
  for (std::size_t i = 1; i < names.size(); ++i) {
    if (file.bytes(names[i]) == file.bytes(names[0])) continue;
    throw UsageError(
        fmt::format("{}: tensors {} and {} are one in the model and differ in the file",
                    path.string(), printable(names[0]), printable(names[i])));
  }
}

SafetensorsFiles opened(const fs::path& path, Files& files) {
  require_file(safetensors_file_or_index(path, files), files);
  return SafetensorsFiles(path, files);
}

void read_into(const at::Tensor& tensor, const SafetensorsFiles& file, const std::string& name) {
  const at::NoGradGuard no_grad;
  // Several elements may lie in one place: expand().
  if (!tensor.is_non_overlapping_and_dense()) tensor.set_data(tensor.detach().contiguous());
  const bool is_bool = tensor.scalar_type() == at::kBool;  // no byte but 0 and 1 is one
  const at::Tensor target = is_bool ? tensor.detach() : stored_view(tensor.detach());
  const TensorInfo& info = file.info(name);
  const at::ScalarType type = scalar_type_of(info.dtype);
  if (target.scalar_type() == type && target.is_contiguous() && target.is_cpu()) {
    file.read(name, host_buffer_of(target));
    return;
  }
  const at::Tensor values = at::empty(info.shape, type);
  file.read(name, host_buffer_of(values));
  target.copy_(values);
}

}  // namespace

void save_model(const fs::path& path, const NamedTensors& model, const SaveModelOptions& options,
                Files& files) {
  const NamedTensors distinct = each_once(model);
  std::vector<at::Tensor> keep_alive;
  std::vector<NamedBuffer> tensors;
  for (const auto* group : {&distinct.parameters, &distinct.buffers}) {
    for (const auto& [name, tensor] : *group) {
      keep_alive.push_back(stored_view(tensor.detach().cpu().contiguous()));
      tensors.push_back({name, keep_alive.back().sizes().vec(), host_buffer_of(keep_alive.back())});
    }
  }
  SafetensorsMetadata metadata = options.metadata;
  metadata.emplace("format", "pt");
  write_safetensors_model(path, tensors, metadata, options.file_bytes, files);
}

void save_model(const fs::path& path, const NamedTensors& model, Communicator& world,
                std::span<const StateTensor> mine, const SaveModelOptions& options, Files& files) {
  ModelParts parts(world, mine);
  if (world.rank() > 0) return parts.serve();
  std::vector<StreamedTensor> tensors;
  const NamedTensors distinct = each_once(model);
  for (const auto* group : {&distinct.parameters, &distinct.buffers}) {
    for (const auto& [name, tensor] : *group) {
      if (parts.contains(name)) {
        tensors.push_back(
            {name, dtype_of(tensor.scalar_type()), tensor.sizes().vec(),
             [&parts, name = name](const ByteSink& write) { parts.read(name, write); }});
        continue;
      }
      const at::Tensor stored = stored_view(tensor.detach().cpu().contiguous());
      const Buffer values = host_buffer_of(stored);
      tensors.push_back(
          {name, values.dtype, stored.sizes().vec(), [stored, values](const ByteSink& write) {
             write({static_cast<const char*>(values.data), values.bytes()});
           }});
    }
  }
  SafetensorsMetadata metadata = options.metadata;
  metadata.emplace("format", "pt");
  try {
    write_safetensors_model(path, tensors, metadata, options.file_bytes, files);
  } catch (...) {
    parts.finish();
    throw;
  }
  parts.finish();
}

ModelReader::ModelReader(const fs::path& path, const NamedTensors& model,
                         const LoadModelOptions& options, Files& files)
    : file_(opened(path, files)) {
  Plan planned = plan(model, file_, options);
  if (options.strict) require_complete(path, planned.left_out);
  for (const auto& [wanted, names] : planned.reads) {
    for (const std::string& name : names) require_fit(path, wanted.tensor, file_.info(name));
    require_equal(path, file_, names);
    for (const std::string& name : wanted.names) names_.emplace(name, names.front());
  }
  left_out_ = std::move(planned.left_out);
}

void ModelReader::read(const NamedTensor& tensor) const {
  const auto known = names_.find(tensor.first);
  if (known != names_.end()) read_into(tensor.second, file_, known->second);
}

LoadedModel load_model(const fs::path& path, const NamedTensors& model,
                       const LoadModelOptions& options, Files& files) {
  const ModelReader reader(path, model, options, files);
  const NamedTensors tensors = each_once(model);
  for (const auto* group : {&tensors.parameters, &tensors.buffers}) {
    for (const NamedTensor& tensor : *group) reader.read(tensor);
  }
  return reader.left_out();
}

}  // namespace trireme
