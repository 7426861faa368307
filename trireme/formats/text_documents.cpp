#include "trireme/formats/text_documents.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/formats/json_error.h"
#include "trireme/formats/json_limits.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/tokenizer/token_error.h"
#include "trireme/formats/tokenizer/utf8.h"
#include "trireme/formats/whole_text.h"

namespace trireme {

namespace {

constexpr std::size_t kDocumentChunkBytes = std::size_t{1} << 18;
constexpr JsonLimits kDocumentLimits = {
    .bytes = std::size_t{1} << 30, .depth = 64, .values = 1'000'000};

std::string names_in(const nlohmann::json& object) {
  std::string names;
  for (const auto& [name, value] : object.items()) {
    names += (names.empty() ? "" : ", ") + printable(name);
  }
  return names.empty() ? "none" : names;
}

std::string text_of(const nlohmann::json& object, const std::string& field,
                    const std::string& place) {
  const auto found = object.find(field);
  if (found == object.end()) {
    throw DataError(fmt::format("{}: must have the field {}, has {}", place, printable(field),
                                names_in(object)));
  }
  if (!found->is_string()) {
    throw DataError(fmt::format("{}: the field {} must be a string, is a JSON {}", place,
                                printable(field), found->type_name()));
  }
  return found->get<std::string>();
}

}  // namespace

DocumentReader::DocumentReader(std::unique_ptr<ByteSource> source, std::string name,
                               DocumentOptions options)
    : source_(std::move(source)), name_(std::move(name)), options_(std::move(options)) {}

std::optional<TextDocument> DocumentReader::next() {
  while (true) {
    std::optional<TextDocument> document = read();
    if (!document || !document->text.empty()) return document;
    ++empty_;
  }
}

std::optional<TextDocument> DocumentReader::read() {
  if (options_.unit != DocumentUnit::kFile) return read_line();
  if (std::exchange(at_end_, true)) return std::nullopt;
  return TextDocument{checked(whole_text(*source_, name_), name_), {}, name_};
}

std::optional<TextDocument> DocumentReader::read_line() {
  std::string line;
  do {
    if (!next_line(line)) return std::nullopt;
    // Between JSON objects a blank line is nothing.
  } while (options_.unit == DocumentUnit::kJsonLine &&
           line.find_first_not_of(" \t") == std::string::npos);
  std::string place = fmt::format("{}:{}", name_, line_);
  line = checked(std::move(line), place);
  if (options_.unit == DocumentUnit::kJsonLine) return parse(line, std::move(place));
  return TextDocument{std::move(line), {}, std::move(place)};
}

bool DocumentReader::next_line(std::string& line) {
  std::size_t searched = at_;
  std::size_t end = 0;
  while ((end = buffer_.find('\n', searched)) == std::string::npos && !at_end_) {
    buffer_.erase(0, at_);
    at_ = 0;
    searched = buffer_.size();
    buffer_.resize(searched + kDocumentChunkBytes);
    const std::size_t n = source_->read({buffer_.data() + searched, kDocumentChunkBytes});
    buffer_.resize(searched + n);
    at_end_ = n < kDocumentChunkBytes;
  }
  const bool is_last = end == std::string::npos;
  if (is_last && at_ == buffer_.size()) return false;
  line = buffer_.substr(at_, is_last ? end : end - at_);
  at_ = is_last ? buffer_.size() : end + 1;
  ++line_;
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

TextDocument DocumentReader::parse(const std::string& line, std::string place) const {
  check_json_limits(line, kDocumentLimits, place);
  try {
    const auto object = nlohmann::json::parse(line);
    if (!object.is_object()) {
      throw DataError(fmt::format("{}: must be a JSON object with the field {}, is a JSON {}",
                                  place, printable(options_.field), object.type_name()));
    }
    TextDocument document;
    document.text = text_of(object, options_.field, place);
    if (!options_.prompt_field.empty()) {
      document.prompt = text_of(object, options_.prompt_field, place);
    }
    document.place = std::move(place);
    return document;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("{}: must be a JSON object: {}", place, reason_of(error)));
  }
}

std::string DocumentReader::checked(std::string text, const std::string& place) const {
  const std::size_t wrong = find_not_utf8(text);
  if (wrong == std::string::npos) return text;
  if (options_.not_utf8 == NotUtf8::kReplace) return replace_not_utf8(text);
  throw DataError(
      fmt::format("{}; convert it (iconv -f latin1 -t utf-8) or let such bytes be replaced "
                  "(--not-utf8 replace)",
                  not_utf8(place, text, wrong).what()));
}

}  // namespace trireme
