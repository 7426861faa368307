#include <fmt/format.h>
#include <unicode/uregex.h>

#include <utility>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/tokenizer/pattern.h"
#include "trireme/formats/tokenizer/utf16.h"

namespace trireme {

namespace {

struct Close {
  void operator()(URegularExpression* expression) const { uregex_close(expression); }
};
using Expression = std::unique_ptr<URegularExpression, Close>;

class IcuPattern final : public Pattern {
 public:
  explicit IcuPattern(const std::string& expression) : text_(expression) {
    const std::u16string units = utf16_of(expression);
    UErrorCode error = U_ZERO_ERROR;
    UParseError place{};
    compiled_.reset(
        uregex_open(units.data(), static_cast<std::int32_t>(units.size()), 0, &place, &error));
    check(error, "is not understood");
    // A pattern from a file may take exponential time; ICU counts about 1 ms of work on one match
    // as 1.
    constexpr std::int32_t kLongest = 1000;
    uregex_setTimeLimit(compiled_.get(), kLongest, &error);
    check(error, "is not understood");
  }

  void for_each_match(std::string_view text, const Use& use) const override {
    const std::u16string units = utf16_of(text);
    UErrorCode error = U_ZERO_ERROR;
    // A compiled expression holds the state of one match.
    const Expression search(uregex_clone(compiled_.get(), &error));
    uregex_setText(search.get(), units.data(), static_cast<std::int32_t>(units.size()), &error);
    check(error, "cannot be used");
    Utf16Cursor cursor(text);
    while (uregex_findNext(search.get(), &error)) {
      const auto begin = static_cast<std::size_t>(uregex_start(search.get(), 0, &error));
      const auto end = static_cast<std::size_t>(uregex_end(search.get(), 0, &error));
      if (end == begin) continue;
      const std::size_t first = cursor.byte_at(begin);
      use(first, cursor.byte_at(end));
    }
    check(error, "takes too long");
  }

 private:
  void check(UErrorCode error, const char* what) const {
    if (U_SUCCESS(error)) return;
    throw DataError(
        fmt::format("the pattern {} {}: {}", printable(text_), what, u_errorName(error)));
  }

  std::string text_;
  Expression compiled_;
};

}  // namespace

std::unique_ptr<Pattern> icu_pattern(const std::string& expression) {
  return std::make_unique<IcuPattern>(expression);
}

}  // namespace trireme
