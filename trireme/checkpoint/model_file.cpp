#include "trireme/checkpoint/model_file.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "trireme/formats/safetensors.h"

namespace trireme {

void save_model(const std::filesystem::path& path, const NamedTensors& model,
                std::map<std::string, std::string> metadata, Files& files) {
  std::vector<at::Tensor> keep_alive;
  std::vector<NamedBuffer> tensors;
  for (const auto* group : {&model.parameters, &model.buffers}) {
    for (const auto& [name, tensor] : *group) {
      keep_alive.push_back(stored_view(tensor.detach().cpu().contiguous()));
      tensors.push_back({name, keep_alive.back().sizes().vec(), host_buffer_of(keep_alive.back())});
    }
  }
  metadata.emplace("format", "pt");
  write_safetensors(path, tensors, metadata, files);
}

}  // namespace trireme
