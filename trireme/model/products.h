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

/// The input of one product, or of several, which share what is kept of it for the backward pass.
class ProductInput {
 public:
  /// x: [..., in] of f32 or f64. Throws UsageError for f64 that is to be rounded.
  ProductInput(const at::Tensor& x, const ComputeType& compute);

  const at::Tensor& x() const { return x_; }
  /// [n, in]: the rows of x, rounded; undefined if nothing is.
  const at::Tensor& kept() const { return kept_; }
  const ComputeType& compute() const { return compute_; }

 private:
  at::Tensor x_;
  at::Tensor kept_;
  ComputeType compute_;
};

/// x weight + bias. weight: [in, out], bias: [out] or undefined. Returns [..., out].
at::Tensor multiply(const ProductInput& x, const at::Tensor& weight, const at::Tensor& bias = {});

/// The same with a weight of [out, in], as torch::nn::Linear has it.
at::Tensor linear(const ProductInput& x, const at::Tensor& weight, const at::Tensor& bias = {});

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
