// Highway's foreach_target includes this file once per instruction set, so it has no #pragma once.
#if defined(TRIREME_KERNELS_HALF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TRIREME_KERNELS_HALF_INL_H_
#undef TRIREME_KERNELS_HALF_INL_H_
#else
#define TRIREME_KERNELS_HALF_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Conversions of f16 and bf16 to f32 and back in integer arithmetic. The bits are the same on every
// instruction set, also on one that has conversions of its own or flushes denormals. They round to
// nearest, ties to even; a NaN stays a NaN and becomes quiet.

template <class D>
using Bits = hn::RebindToUnsigned<D>;

template <class D>
hn::Vec<D> f32_of_bf16(D d, hn::Vec<Bits<D>> half) {
  return hn::BitCast(d, hn::ShiftLeft<16>(half));
}

template <class D>
hn::Vec<Bits<D>> bf16_of_f32(D, hn::Vec<D> value) {
  const Bits<D> du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFFu))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x0040u));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
}

template <class D>
hn::Vec<D> f32_of_f16(D d, hn::Vec<Bits<D>> half) {
  const Bits<D> du;
  const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000u)));
  const auto magnitude = hn::And(half, hn::Set(du, 0x7FFFu));
  // Exponents are biased by 15 in f16 and by 127 in f32; those of infinity and NaN become the
  // largest.
  const auto special = hn::Gt(magnitude, hn::Set(du, 0x7BFFu));
  const auto bias = hn::IfThenElse(special, hn::Set(du, 224u << 23), hn::Set(du, 112u << 23));
  const auto normal = hn::Add(hn::ShiftLeft<13>(magnitude), bias);
  // A denormal is magnitude * 2^-24: as the low bits of 0.5, less 0.5.
  const auto half_one = hn::Set(d, 0.5f);
  const auto denormal =
      hn::Sub(hn::BitCast(d, hn::Or(hn::BitCast(du, half_one), magnitude)), half_one);
  const auto is_denormal = hn::Lt(magnitude, hn::Set(du, 0x0400u));
  // 0.5's last bit is 2^-24, so the difference above is exact.
  const auto result = hn::IfThenElse(is_denormal, hn::BitCast(du, denormal), normal);
  return hn::BitCast(d, hn::Or(result, sign));
}

template <class D>
hn::Vec<Bits<D>> f16_of_f32(D d, hn::Vec<D> value) {
  const Bits<D> du;
  const auto bits = hn::BitCast(du, value);
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFFFFFFu));
  const auto sign = hn::ShiftRight<16>(hn::Xor(bits, magnitude));
  // Normal: rebias the exponent and round at bit 13; a carry correctly increments the exponent.
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
  const auto rebias = hn::Set(du, 0x0FFFu - (112u << 23));
  const auto normal = hn::ShiftRight<13>(hn::Add(magnitude, hn::Add(odd, rebias)));
  // Below 2^-14: adding 0.5 rounds at 2^-24, the last bit of a denormal.
  const auto half_one = hn::Set(d, 0.5f);
  const auto denormal = hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(d, magnitude), half_one)),
                                hn::BitCast(du, half_one));
  const auto quiet =
      hn::Or(hn::Set(du, 0x7E00u), hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 0x03FFu)));
  auto result = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 113u << 23)), denormal, normal);
  // From 65520 on the nearest is infinity.
  result =
      hn::IfThenElse(hn::Gt(magnitude, hn::Set(du, 0x477FEFFFu)), hn::Set(du, 0x7C00u), result);
  result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(du, 0x7F800000u)), quiet, result);
  return hn::Or(result, sign);
}

// From memory and back.
template <class D>
hn::Vec<D> load_bf16(D d, const std::uint16_t* p) {
  return f32_of_bf16(d, hn::PromoteTo(Bits<D>(), hn::LoadU(hn::Rebind<std::uint16_t, D>(), p)));
}

template <class D>
void store_bits(D, hn::Vec<Bits<D>> bits, std::uint16_t* p) {
  const hn::Rebind<std::uint16_t, D> d16;
  const hn::RebindToSigned<D> di;
  // Through signed: bits of a 16-bit value, which DemoteTo does not saturate.
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, bits)), d16, p);
}

template <class D>
void store_bf16(D d, hn::Vec<D> value, std::uint16_t* p) {
  store_bits(d, bf16_of_f32(d, value), p);
}

// The conversions of x86, which every machine with AVX2 has, give the same bits as the ones above:
// they ignore the flushing of denormals, and the instruction itself selects the rounding.
template <class D>
hn::Vec<D> load_f16(D d, const std::uint16_t* p) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#else
  return f32_of_f16(d, hn::PromoteTo(Bits<D>(), hn::LoadU(hn::Rebind<std::uint16_t, D>(), p)));
#endif
}

template <class D>
void store_f16(D d, hn::Vec<D> value, std::uint16_t* p) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  const hn::Rebind<hwy::float16_t, D> d16;
  hn::StoreU(hn::DemoteTo(d16, value), d16, reinterpret_cast<hwy::float16_t*>(p));
#else
  store_bits(d, f16_of_f32(d, value), p);
#endif
}

}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TRIREME_KERNELS_HALF_INL_H_
