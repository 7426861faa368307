#pragma once

#include <vector>

#include "trireme/model/model.h"
#include "trireme/tensor/watched_tensor.h"

namespace trireme {

/// While the object lives the model is in evaluation mode, and afterwards in training mode.
class EvaluationMode {
 public:
  explicit EvaluationMode(Model& model) : model_(model) {
    for (const NamedTensor& buffer : model.tensors().buffers) buffers_.emplace_back(buffer);
    model.train(false);
  }
  ~EvaluationMode() { model_.train(true); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

  /// Gives buffers that forward passes have changed the values back that they had, so that training
  /// does not see these passes. Throws UsageError if the type or shape of one has changed.
  void restore_buffers() {
    for (WatchedTensor& buffer : buffers_) {
      if (buffer.has_changed()) buffer.restore();
    }
  }

 private:
  Model& model_;
  std::vector<WatchedTensor> buffers_;
};

}  // namespace trireme
