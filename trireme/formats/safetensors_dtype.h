#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "trireme/base/buffer.h"

namespace trireme {

/// "F32" for f32: how safetensors spells a type.
std::string_view safetensors_name_of(DType dtype);

/// The type of that name, if trireme has it.
std::optional<DType> dtype_of_safetensors(std::string_view name);

/// Their names, for errors: "I64, F64, ...", in the order in which Hugging Face's writer stores
/// tensors, widest first, so that each is aligned.
std::string safetensors_dtypes();

/// Place in that order, from 0.
int safetensors_rank(DType dtype);

}  // namespace trireme
