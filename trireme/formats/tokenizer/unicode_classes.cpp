#include "trireme/formats/tokenizer/unicode_classes.h"

#include <unicode/uchar.h>

#include <algorithm>

namespace trireme {

namespace {

// ICU calls it for each range [begin, end) of characters of one general category.
UBool add_range(const void* context, UChar32 begin, UChar32 end, UCharCategory category) {
  auto& classes = *static_cast<std::vector<std::uint8_t>*>(const_cast<void*>(context));
  const std::uint32_t mask = U_MASK(category);
  std::uint8_t common = 0;
  if ((mask & U_GC_L_MASK) != 0) common = UnicodeClasses::kLetter;
  if ((mask & U_GC_N_MASK) != 0) common = UnicodeClasses::kNumber;
  std::fill(classes.begin() + begin, classes.begin() + end, common);
  if ((mask & (U_GC_Z_MASK | U_GC_CC_MASK)) == 0) return true;
  for (UChar32 character = begin; character < end; ++character) {
    if (!is_space(static_cast<char32_t>(character))) continue;
    classes[static_cast<std::size_t>(character)] = UnicodeClasses::kSpace;
  }
  return true;
}

}  // namespace

bool is_space(char32_t character) {
  return u_isUWhiteSpace(static_cast<UChar32>(character));
}

bool is_word_character(char32_t character) {
  const auto code = static_cast<UChar32>(character);
  const std::uint32_t mask = U_GET_GC_MASK(code);
  return (mask & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
         u_hasBinaryProperty(code, UCHAR_ALPHABETIC) ||
         u_hasBinaryProperty(code, UCHAR_JOIN_CONTROL);
}

UnicodeClasses::UnicodeClasses() : classes_(0x110000) {
  u_enumCharTypes(add_range, &classes_);
}

}  // namespace trireme
