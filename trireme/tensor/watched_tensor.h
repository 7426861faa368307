#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// A tensor that others may change, and a copy of the values it is remembered by.
///
/// Up to 1 MiB every byte is compared. Of larger tensors a change is seen if an operation of
/// libtorch made it (its version counter), if the memory is another one, or if it reaches one of 64
/// places spread over the tensor: native kernels, such as batch normalization, count no version.
class WatchedTensor {
 public:
  /// A dense tensor on the CPU, kept by reference count.
  explicit WatchedTensor(NamedTensor tensor);

  const std::string& name() const { return tensor_.first; }
  const at::Tensor& tensor() const { return tensor_.second; }
  /// The remembered values, contiguous.
  const at::Tensor& remembered() const { return remembered_; }

  /// True if the values are not the remembered ones. Throws UsageError if type or shape have
  /// changed.
  bool has_changed() const;
  /// Remembers the values as they are.
  void remember();
  /// Writes the remembered values back.
  void restore();
  /// Writes and remembers new ones, of the same type and shape.
  void assign(const at::Tensor& values);

 private:
  void note_state();

  NamedTensor tensor_;
  at::Tensor remembered_;
  std::int64_t version_ = 0;
  const void* memory_ = nullptr;
};

/// The memory of a contiguous tensor on the CPU as u8, of whatever type it is.
Buffer bytes_of(const at::Tensor& tensor);

}  // namespace trireme
