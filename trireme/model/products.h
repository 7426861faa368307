#pragma once

#include <ATen/core/Tensor.h>

#include "trireme/base/buffer.h"

namespace trireme {

/// How matrices are multiplied in mixed precision (Micikevicius et al. 2018): operands, those of
/// the backward pass included, are rounded to a type of 16 bits and kept in it, products are added
/// in f32, and all else is f32.
struct ComputeType {
  DType operands = DType::kF32;  ///< bf16 or f16; f32: operands stay as they are, f32 or f64
  /// libtorch multiplies the rounded operands and rounds the result; bf16 only. If false they are
  /// multiplied in f32, and the result is not rounded.
  bool native = false;

  bool rounds() const { return operands != DType::kF32; }
};

/// x weight + bias. x: [..., in] of f32 or f64, weight: [in, out], bias: [out] or undefined.
/// Returns
/// [..., out]. Keeps x, in the type of the operands, for the backward pass. Throws UsageError for
/// operands other than f32 that are to be rounded.
at::Tensor multiply(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const ComputeType& compute);

/// The same with a weight of [out, in], as torch::nn::Linear has it.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  const ComputeType& compute);

// For operations that consist of products, without gradients.

/// What of x is multiplied: x itself, or a contiguous copy that is rounded.
at::Tensor operand(const at::Tensor& x, const ComputeType& compute);

/// Makes `out`, of f32 or f64, the product of two operands, or adds their product to it.
void put_product(at::Tensor& out, const at::Tensor& a, const at::Tensor& b);
void add_product(at::Tensor& out, const at::Tensor& a, const at::Tensor& b);

/// A contiguous copy of x, of f32, rounded to bf16 or f16; and such a copy in f32.
at::Tensor narrowed(const at::Tensor& x, DType type);
at::Tensor widened(const at::Tensor& x);

}  // namespace trireme
