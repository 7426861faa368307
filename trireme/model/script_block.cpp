#include "trireme/model/script_block.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "trireme/base/error.h"

namespace trireme {

namespace {

// The last line of the interpreter's report, which says what is wrong.
std::string_view reason_of(const std::exception& error) {
  const std::string_view report = error.what();
  const std::size_t last = report.rfind("RuntimeError: ");
  const std::string_view reason = last == std::string_view::npos ? report : report.substr(last);
  return reason.substr(0, reason.find('\n'));
}

torch::jit::Module load(const std::filesystem::path& path) {
  if (path.empty()) throw UsageError("model torchscript needs the path of a TorchScript file");
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw UsageError(fmt::format("{}: there is no such TorchScript file", path.string()));
  }
  try {
    return torch::jit::load(path.string(), at::kCPU);
  } catch (const std::exception& error) {
    const std::string_view reason = error.what();
    throw DataError(fmt::format(
        "{}: not a TorchScript module ({}); write one with torch.jit.script(model).save(path)",
        path.string(), reason.substr(0, reason.find('\n'))));
  }
}

using Place = std::pair<const void*, std::vector<std::int64_t>>;

// A file holds a tensor of two names twice, each over the same memory: makes them one tensor again,
// which has one gradient.
void tie(torch::jit::Module module, std::map<Place, at::Tensor>& first) {
  for (const auto& item : module.named_attributes(/*recurse=*/false)) {
    if (!item.value.isTensor()) continue;
    const at::Tensor tensor = item.value.toTensor();
    if (!tensor.defined() || tensor.numel() == 0) continue;
    const auto [known, is_new] =
        first.try_emplace({tensor.data_ptr(), tensor.sizes().vec()}, tensor);
    if (!is_new && !known->second.is_same(tensor)) module.setattr(item.name, known->second);
  }
}

}  // namespace

ScriptBlock::ScriptBlock(const std::filesystem::path& path) : path_(path), module_(load(path)) {
  std::map<Place, at::Tensor> first;
  for (const torch::jit::Module& module : module_.modules()) tie(module, first);
  if (!module_.find_method("forward")) {
    throw DataError(fmt::format("{}: the module has no forward method", path.string()));
  }
  if (module_.parameters().size() == 0) {
    throw DataError(
        fmt::format("{}: the module has no parameters to train; save it with torch.jit.script or "
                    "torch.jit.trace, without torch.jit.freeze",
                    path.string()));
  }
  const auto parameters = tensors().parameters;
  if (std::ranges::none_of(parameters, [](const auto& p) { return p.second.requires_grad(); })) {
    throw DataError(
        fmt::format("{}: a parameter must require a gradient, none does; call requires_grad_() on "
                    "them before saving",
                    path.string()));
  }
}

at::Tensor ScriptBlock::forward(const at::Tensor& input) {
  c10::IValue output;
  try {
    output = module_.forward({input});
  } catch (const std::exception& error) {
    throw DataError(fmt::format("{}: forward of a tensor [{}] failed: {}", path_.string(),
                                fmt::join(input.sizes(), ", "), reason_of(error)));
  }
  if (!output.isTensor()) {
    throw DataError(fmt::format("{}: forward must return one tensor, got {}", path_.string(),
                                output.tagKind()));
  }
  return std::move(output).toTensor();
}

NamedTensors ScriptBlock::tensors() const {
  NamedTensors tensors;
  for (const auto& item : module_.named_parameters()) {
    tensors.parameters.emplace_back(item.name, item.value);
  }
  for (const auto& item : module_.named_buffers()) {
    tensors.buffers.emplace_back(item.name, item.value);
  }
  return tensors;
}

void ScriptBlock::train(bool on) {
  // Module::train() asserts that every submodule has the attribute.
  for (torch::jit::Module module : module_.modules()) {
    if (module.hasattr("training")) module.setattr("training", on);
  }
}

}  // namespace trireme
