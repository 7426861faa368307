#pragma once

namespace trireme {

/// True if the processor has instructions that multiply bf16 (AVX512_BF16 or AMX). libtorch
/// multiplies matrices of bf16 about 40 times slower than those of f32 where it has none.
bool multiplies_bf16();

}  // namespace trireme
