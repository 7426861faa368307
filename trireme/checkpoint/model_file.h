#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/base/state_tensor.h"
#include "trireme/comm/communicator.h"
#include "trireme/formats/safetensors_index.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

struct SaveModelOptions {
  /// Text that is kept in the file.
  std::map<std::string, std::string> metadata = {};
  /// The most bytes of tensors in one file; 0: any number.
  std::int64_t file_bytes = 0;
};

/// Writes parameters and buffers as a safetensors file in Hugging Face's way: under the model's
/// names, with the metadata format = pt, so that
///
///     model.load_state_dict(safetensors.torch.load_file("model.safetensors"))
///
/// works in Python. A model of more than options.file_bytes is written in several files with an
/// index, as write_safetensors_model() does (formats/safetensors_model.h); load_model(path) reads
/// it. Of tensors with several names the first one counts; types that the format lacks are written
/// as stored_view() says. The model appears as a whole or not at all. Throws DataError.
void save_model(const std::filesystem::path& path, const NamedTensors& model,
                const SaveModelOptions& options = {}, Files& files = real_files());

/// The same of a model of which ranks hold parts. Collective; rank 0 writes, and nobody holds more
/// of it than before but a buffer of fixed size. `mine`: regions of tensors of `model` that this
/// rank has, each a range of the whole tensor, which together cover a tensor exactly once; those
/// with is_written == false do not count. Tensors of which no rank gives regions are taken from
/// rank 0's `model`. If writing fails, rank 0 throws DataError; what others do is up to them.
void save_model(const std::filesystem::path& path, const NamedTensors& model, Communicator& world,
                std::span<const StateTensor> mine, const SaveModelOptions& options = {},
                Files& files = real_files());

struct LoadModelOptions {
  /// Throw if the file lacks a tensor of the model or has one that the model lacks.
  bool strict = true;
  /// Text that names in the file may begin with and names of the model do not, such as the name of
  /// a module around it.
  std::vector<std::string> prefixes = {};
  /// Patterns (base/pattern.h) of names in the file that are not missed in the model.
  std::vector<std::string> ignored = {};
};

/// What load_model() has left out: nothing if it is strict.
struct LoadedModel {
  std::vector<std::string> missing;  ///< in the model and not in the file; they keep their values
  std::vector<std::string> unexpected;  ///< in the file and not in the model
};

/// Fills the parameters and buffers of a model, each by its name, from a safetensors file, or from
/// the files of an index: that which `path` is or, where there is no file `path`, the one beside it
/// (formats/safetensors_index.h).
///
///     torch::nn::Linear model(8, 1);
///     load_model("model.safetensors", tensors_of(*model));
///     strategy->attach(*model);
///
/// Each rank that calls it reads the file. A tensor must have the file's shape and its type, or a
/// floating type that holds every value of the file's type (f32 from f16, f64 from f32). Of a
/// tensor with several names the file may hold any of them, with equal values.
///
/// Throws DataError if the file is missing or damaged, UsageError, which names the tensors, if they
/// do not fit; the model is unchanged then, unless reading fails in the middle of the values.
LoadedModel load_model(const std::filesystem::path& path, const NamedTensors& model,
                       const LoadModelOptions& options = {}, Files& files = real_files());

/// The same, tensor by tensor, for a model that no rank holds whole (Model::defer_weights()).
///
///     auto reader = std::make_shared<ModelReader>("model.safetensors", model.tensors());
///     model.defer_weights([reader](const NamedTensor& weight) { reader->read(weight); });
class ModelReader {
 public:
  /// Finds each tensor of `model`, whose values are not touched. Throws as load_model().
  ModelReader(const std::filesystem::path& path, const NamedTensors& model,
              const LoadModelOptions& options = {}, Files& files = real_files());

  /// Fills a tensor that has one of the model's names; one that is missing in the file keeps its
  /// values. Throws DataError if the file cannot be read.
  void read(const NamedTensor& tensor) const;

  const LoadedModel& left_out() const { return left_out_; }

 private:
  SafetensorsFiles file_;
  std::map<std::string, std::string> names_;  // of the model, and in the file
  LoadedModel left_out_;
};

}  // namespace trireme
