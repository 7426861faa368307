#include "trireme/formats/safetensors_dtype.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace trireme {

namespace {

struct Spelling {
  DType dtype;
  std::string_view name;
};

constexpr std::array<Spelling, 7> kSpellings = {{{DType::kI64, "I64"},
                                                 {DType::kF64, "F64"},
                                                 {DType::kF32, "F32"},
                                                 {DType::kI32, "I32"},
                                                 {DType::kBF16, "BF16"},
                                                 {DType::kF16, "F16"},
                                                 {DType::kU8, "U8"}}};

}  // namespace

std::string_view safetensors_name_of(DType dtype) {
  return kSpellings[static_cast<std::size_t>(safetensors_rank(dtype))].name;
}

std::optional<DType> dtype_of_safetensors(std::string_view name) {
  const auto found = std::ranges::find(kSpellings, name, &Spelling::name);
  if (found == kSpellings.end()) return std::nullopt;
  return found->dtype;
}

std::string safetensors_dtypes() {
  std::array<std::string_view, kSpellings.size()> names;
  std::ranges::transform(kSpellings, names.begin(), &Spelling::name);
  return fmt::format("{}", fmt::join(names, ", "));
}

int safetensors_rank(DType dtype) {
  return static_cast<int>(std::ranges::find(kSpellings, dtype, &Spelling::dtype) -
                          kSpellings.begin());
}

}  // namespace trireme
