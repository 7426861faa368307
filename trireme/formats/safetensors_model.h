#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "trireme/formats/safetensors.h"

namespace trireme {

// A model in one safetensors file or, as Hugging Face has large ones, in several, its parts, with
// an index. Both forms are named by the path of the one file:
//
//     model.safetensors
//
//     model-00001-of-00002.safetensors
//     model-00002-of-00002.safetensors
//     model.safetensors.index.json
//
// Where both are there, the one file counts, as it does for Hugging Face's readers.
// SafetensorsFiles reads either.

/// Writes `tensors` as the model `path`, in place of an earlier one, whichever form that has: as
/// one file if they have at most `part_bytes` bytes together, otherwise as parts of at most so many
/// bytes of tensors, in the order of `tensors`. A tensor that is larger has a part of its own.
/// `part_bytes` 0: one file. Each part has `metadata`.
///
/// Until the new model is whole the earlier one is: parts get names that no file has,
/// model.2-00001-of-00002.safetensors where there is a model-00001-of-00002.safetensors, and a
/// rename or removal of one file replaces the one model by the other. If the system stops, parts
/// that no index names may remain, which remove_unused_parts() removes.
///
/// Throws as write_safetensors(), and UsageError if `path` is that of an index.
void write_safetensors_model(const std::filesystem::path& path,
                             std::span<const NamedBuffer> tensors,
                             const SafetensorsMetadata& metadata, std::int64_t part_bytes,
                             Files& files = real_files());
void write_safetensors_model(const std::filesystem::path& path,
                             std::span<const StreamedTensor> tensors,
                             const SafetensorsMetadata& metadata, std::int64_t part_bytes,
                             Files& files = real_files());

/// Returns true if `name` is a name of the index or of a part of the model with the file name
/// `model`.
bool is_of_safetensors_model(std::string_view name, std::string_view model);

/// Returns what there is of the model `path`, whether or not it belongs together: its index first,
/// its one file, its parts.
std::vector<std::filesystem::path> safetensors_model_files(const std::filesystem::path& path,
                                                           Files& files = real_files());

/// Removes what is there of the model `path` and does not count: the index beside its one file, and
/// parts that the index does not name. Does nothing to parts whose index is damaged.
void remove_unused_parts(const std::filesystem::path& path, Files& files = real_files());

}  // namespace trireme
