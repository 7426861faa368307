#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "trireme/base/files.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Writes parameters and buffers as one safetensors file in Hugging Face's way: under the model's
/// names, with the metadata format = pt, so that
///
///     model.load_state_dict(safetensors.torch.load_file("model.safetensors"))
///
/// works in Python. Of tensors with several names the first one counts; types that the format lacks
/// are written as stored_view() says. The file appears as a whole or not at all. Throws DataError.
void save_model(const std::filesystem::path& path, const NamedTensors& model,
                std::map<std::string, std::string> metadata = {}, Files& files = real_files());

}  // namespace trireme
