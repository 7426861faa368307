#include "trireme/config/set_value.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <optional>

#include "trireme/base/error.h"

namespace trireme {

namespace {

bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// TOML counts columns in characters.
std::optional<std::size_t> offset_of(std::string_view text, toml::source_position position) {
  std::size_t at = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  for (toml::source_index line = 1; line < position.line; ++line) {
    at = text.find('\n', at);
    if (at == std::string_view::npos) return std::nullopt;
    ++at;
  }
  for (toml::source_index column = 1; column < position.column; ++column) {
    if (at >= text.size()) return std::nullopt;
    do {
      ++at;
    } while (at < text.size() && is_continuation(text[at]));
  }
  return at;
}

// The end of the line of "[section]", its end-of-line included.
std::optional<std::size_t> end_of_header(std::string_view text, std::string_view section) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    line = line.substr(0, line.find('#'));
    std::string without_blanks;
    std::ranges::copy_if(line, std::back_inserter(without_blanks),
                         [&](char c) { return !is_blank(c); });
    if (without_blanks == fmt::format("[{}]", section)) return std::min(end + 1, text.size());
    begin = end + 1;
  }
  return std::nullopt;
}

toml::table parsed(const std::string& text, const std::string& source) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    const auto begin = error.source().begin;
    throw UsageError(fmt::format("{}:{}:{}: {}", source, begin.line, begin.column,
                                 std::string_view(error.description())));
  }
}

// Returns `text` with the value in its place, or an empty string if there is none.
std::string edited(const std::string& text, const toml::table& table, std::string_view section,
                   std::string_view name, std::string_view value) {
  if (const toml::node_view node = table[section][name]) {
    const auto begin = offset_of(text, node.node()->source().begin);
    const auto end = offset_of(text, node.node()->source().end);
    if (!begin || !end || *end < *begin) return "";
    return text.substr(0, *begin) + std::string(value) + text.substr(*end);
  }
  const std::string_view line_end = text.find("\r\n") != std::string::npos ? "\r\n" : "\n";
  const std::string_view before = text.empty() || text.ends_with('\n') ? "" : line_end;
  const std::string line = fmt::format("{} = {}{}", name, value, line_end);
  if (const auto header = end_of_header(text, section)) {
    const std::string_view end_of_last = *header == text.size() ? before : "";
    return text.substr(0, *header) + std::string(end_of_last) + line + text.substr(*header);
  }
  // No TOML if dotted keys have opened the section already.
  const std::string_view apart = text.empty() ? "" : line_end;
  return fmt::format("{}{}{}[{}]{}{}", text, before, apart, section, line_end, line);
}

// What `text` must have become: the same tables, but for the value.
bool is_changed_to(const std::string& text, toml::table wanted, std::string_view section,
                   std::string_view name, std::string_view value) {
  try {
    if (!wanted.contains(section)) wanted.insert(section, toml::table());
    toml::table one = toml::parse(fmt::format("value = {}", value));
    wanted[section].as_table()->insert_or_assign(name, std::move(*one.get("value")));
    return toml::parse(text) == wanted;
  } catch (const toml::parse_error&) {
    return false;
  }
}

}  // namespace

std::string with_value(const std::string& text, std::string_view key, std::string_view value,
                       const std::string& source) {
  const toml::table table = parsed(text, source);
  const std::size_t dot = key.find('.');
  const std::string_view section = key.substr(0, dot);
  const std::string_view name = key.substr(dot + 1);
  const bool is_section = !table.contains(section) || table[section].is_table();
  std::string changed = is_section ? edited(text, table, section, name, value) : "";
  if (!changed.empty() && is_changed_to(changed, table, section, name, value)) return changed;
  throw UsageError(fmt::format("{}: {} = {} cannot be added in its place; write it there by hand",
                               source, key, value));
}

}  // namespace trireme
