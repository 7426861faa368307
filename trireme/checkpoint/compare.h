#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/checkpoint/stored_tensors.h"

namespace trireme {

/// A tensor that is not the same in A and in B.
struct TensorDifference {
  enum class Kind { kValues, kTypeOrShape, kOnlyInA, kOnlyInB };

  std::string name;  ///< in A, or in B if A has none
  Kind kind = Kind::kValues;
  /// Type and shape of the tensor there; empty: it is not there.
  std::string a, b;

  // Of kValues:
  std::vector<std::int64_t> index = {};  ///< of the first element that differs, in the whole tensor
  std::string value_a = {}, value_b = {};  ///< that element
  std::int64_t elements = 0;               ///< of the tensor
  std::int64_t different = 0;              ///< elements that differ
  double largest = 0;                      ///< of |a - b|; infinite if one of the two is no number
};

/// "values", "type or shape", "only in A", "only in B"
std::string_view name_of(TensorDifference::Kind kind);

/// A value beside the tensors of a checkpoint: "step", "metadata.NAME", "SECTION.NAME".
struct StateDifference {
  std::string name;
  std::string a, b;  ///< empty: it is not there
};

struct Comparison {
  /// A checkpoint was compared with a model: its tensors "model.NAME" with the model's NAME.
  bool of_models_alone = false;
  std::int64_t tensors = 0;   ///< that both have with equal type and shape
  std::int64_t elements = 0;  ///< of these
  std::vector<TensorDifference> tensor_differences = {};  ///< by name
  std::vector<StateDifference> state_differences = {};
  /// The configurations of the runs are not the same text. That counts as no difference: layout
  /// and folders are part of it.
  bool configurations_differ = false;

  bool is_equal() const { return tensor_differences.empty() && state_differences.empty(); }
  /// The first difference of values.
  const TensorDifference* first() const;
};

/// Compares all tensors of two checkpoints or models by name, however each is cut into chunks, and
/// what two checkpoints hold besides tensors. Elements are equal if their bits are, or if
/// |a - b| <= tolerance. Memory: two pieces (checkpoint/pieces.h). Each byte is read once, and
/// those of checkpoints once more, before, to be hashed. Throws DataError, which names the file,
/// and UsageError if the tolerance is negative or not finite.
Comparison compare(StoredTensors& a, StoredTensors& b, std::optional<double> tolerance = {});

}  // namespace trireme
