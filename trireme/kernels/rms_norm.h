#pragma once

#include <cstdint>

#include "trireme/base/buffer.h"

namespace trireme {

/// y = weight * x / sqrt(mean(x^2) + eps) for each row (Zhang and Sennrich 2019).
///
/// x, y: [rows, width]; weight: [width]; inverse_rms: [rows], which the gradient needs. All f32, or
/// all f64; throws UsageError for other types.
void rms_norm(Buffer y, Buffer inverse_rms, Buffer x, Buffer weight, double eps);

/// dx: [rows, width] is set, and dweight: [width] is added to.
void rms_norm_backward(Buffer dx, Buffer dweight, Buffer dy, Buffer x, Buffer weight,
                       Buffer inverse_rms);

}  // namespace trireme
