#include "trireme/train/config.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <sstream>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/text.h"
#include "trireme/train/config_schema.h"

namespace trireme {

namespace {

// What a value is called in errors, lists and documentation.
struct TypeName {
  std::string operator()(bool*) const { return "boolean"; }
  std::string operator()(std::int64_t*) const { return "integer"; }
  std::string operator()(double*) const { return "number"; }
  std::string operator()(std::string*) const { return "text"; }
  std::string operator()(std::vector<std::int64_t>*) const { return "list of integers"; }
  std::string operator()(std::vector<double>*) const { return "list of numbers"; }
  std::string operator()(std::vector<std::string>*) const { return "list of texts"; }
};

struct ToToml {
  std::string operator()(const bool* x) const { return *x ? "true" : "false"; }
  std::string operator()(const std::int64_t* x) const { return fmt::format("{}", *x); }
  std::string operator()(const double* x) const {
    const std::string text = fmt::format("{}", *x);
    return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
  }
  std::string operator()(const std::string* x) const {
    std::ostringstream out;
    out << toml::value<std::string>(*x);
    return out.str();
  }
  template <class T>
  std::string operator()(const std::vector<T>* list) const {
    std::vector<std::string> items;
    for (const T& item : *list) items.push_back((*this)(&item));
    return fmt::format("[{}]", fmt::join(items, ", "));
  }
};

// Assigns a TOML value; false if it is of another type.
struct Assign {
  const toml::node& node;

  bool operator()(bool* to) const { return exactly(to); }
  bool operator()(std::int64_t* to) const { return exactly(to); }
  bool operator()(std::string* to) const { return exactly(to); }
  bool operator()(double* to) const {
    if (!node.is_number()) return false;
    *to = *node.value<double>();
    return true;
  }
  template <class T>
  bool operator()(std::vector<T>* to) const {
    const toml::array* array = node.as_array();
    if (array == nullptr) return false;
    std::vector<T> items;
    for (const toml::node& item : *array) {
      T value{};
      if (!Assign{item}(&value)) return false;
      items.push_back(std::move(value));
    }
    *to = std::move(items);
    return true;
  }

 private:
  template <class T>
  bool exactly(T* to) const {
    const auto value = node.value_exact<T>();
    if (value) *to = *value;
    return value.has_value();
  }
};

// As a user would write it: "text", 0.9.
std::string shown(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return fmt::format("\"{}\"", *text);
  if (const auto number = node.value_exact<double>()) return fmt::format("{}", *number);
  if (const toml::array* array = node.as_array()) {
    std::vector<std::string> items;
    for (const toml::node& item : *array) items.push_back(shown(item));
    return fmt::format("[{}]", fmt::join(items, ", "));
  }
  if (node.is_table()) return "a section";
  std::ostringstream out;
  node.visit([&](const auto& value) { out << value; });
  return out.str();
}

class Reader {
 public:
  explicit Reader(Config& config) : keys_(schema_of(config)) {
    for (const ConfigKey& key : keys_) names_.push_back(key.name);
  }

  // `where`: what to say of a place, given a node.
  using Where = std::function<std::string(const toml::node&)>;

  void read(const toml::table& table, const std::string& prefix, const Where& where) const {
    for (const auto& [key, node] : table) {
      const std::string name = prefix + std::string(key.str());
      if (const toml::table* section = node.as_table(); section && is_section(name)) {
        read(*section, name + ".", where);
      } else {
        set(name, node, where(node));
      }
    }
  }

  bool is_text(const std::string& name) const {
    return std::ranges::any_of(keys_, [&](const ConfigKey& key) {
      return key.name == name && std::holds_alternative<std::string*>(key.value);
    });
  }

 private:
  bool is_section(const std::string& name) const {
    return std::any_of(names_.begin(), names_.end(),
                       [&](const std::string& key) { return key.starts_with(name + "."); });
  }

  void set(const std::string& name, const toml::node& node, const std::string& where) const {
    const auto key = std::find_if(keys_.begin(), keys_.end(),
                                  [&](const ConfigKey& k) { return k.name == name; });
    if (key == keys_.end()) throw UsageError(fmt::format("{}: {}", where, unknown(name)));
    const auto refuse = [&](const std::string& wanted) {
      throw UsageError(fmt::format("{}: {} must be {}, got {}", where, name, wanted, shown(node)));
    };
    const std::string type = std::visit(TypeName(), key->value);
    if (!std::visit(Assign{node}, key->value)) {
      refuse((type == "integer" ? "an " : type == "text" ? "" : "a ") + type);
    }
    if (const auto wanted = key->rule(key->value)) refuse(*wanted);
  }

  std::string unknown(const std::string& name) const {
    std::string message = fmt::format("unknown key {}", name);
    const std::string guess = meant_by(name);
    if (!guess.empty()) return message + fmt::format("; did you mean {}?", guess);
    return message + "; `trireme keys` lists them";
  }

  // A section misspelt, a key without its section, or the nearest key.
  std::string meant_by(const std::string& name) const {
    if (name.find('.') != std::string::npos) return nearest(name, names_);
    std::vector<std::string> sections;
    for (const std::string& key : names_) {
      if (key.ends_with("." + name)) return key;
      sections.push_back(key.substr(0, key.find('.')));
    }
    return nearest(name, sections);
  }

  std::vector<ConfigKey> keys_;
  std::vector<std::string> names_;
};

// `is_text`: whether a key takes text, which then needs no quotes, whatever it looks like.
toml::table parse_override(const std::string& text,
                           const std::function<bool(const std::string&)>& is_text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError(
        fmt::format("command line: an override is section.key=value, got \"{}\"", text));
  }
  const std::string key = text.substr(0, equals);
  const std::string value = text.substr(equals + 1);
  try {
    toml::table table = toml::parse(fmt::format("{} = {}", key, value));
    if (!is_text(key) || table.at_path(key).is_string()) return table;
  } catch (const toml::parse_error&) {
    // Text without quotes.
  }
  try {
    return toml::parse(fmt::format("{} = {}", key, ToToml()(&value)));
  } catch (const toml::parse_error&) {
    throw UsageError(
        fmt::format("command line: an override is section.key=value, got \"{}\"", text));
  }
}

}  // namespace

Config parse_config(const std::string& text, const std::string& source,
                    std::span<const std::string> overrides) {
  Config config;
  const Reader reader(config);
  try {
    reader.read(toml::parse(text), "", [&](const toml::node& node) {
      const auto begin = node.source().begin;
      return fmt::format("{}:{}:{}", source, begin.line, begin.column);
    });
  } catch (const toml::parse_error& error) {
    const auto begin = error.source().begin;
    throw UsageError(fmt::format("{}:{}:{}: {}", source, begin.line, begin.column,
                                 std::string_view(error.description())));
  }
  for (const std::string& override_text : overrides) {
    const auto is_text = [&](const std::string& key) { return reader.is_text(key); };
    reader.read(parse_override(override_text, is_text), "",
                [](const toml::node&) { return std::string("command line"); });
  }
  return config;
}

Config read_config(const std::filesystem::path& path, std::span<const std::string> overrides) {
  if (path.empty()) return parse_config("", "defaults", overrides);
  return parse_config(read_file(path), path.string(), overrides);
}

std::string to_toml(const Config& config) {
  Config copy = config;
  std::string out;
  std::string section;
  for (const ConfigKey& key : schema_of(copy)) {
    const std::size_t dot = key.name.find('.');
    if (key.name.substr(0, dot) != section) {
      section = key.name.substr(0, dot);
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    }
    out += fmt::format("{} = {}\n", key.name.substr(dot + 1), std::visit(ToToml(), key.value));
  }
  return out;
}

std::vector<KeyDescription> config_keys() {
  Config defaults;
  std::vector<KeyDescription> keys;
  for (const ConfigKey& key : schema_of(defaults)) {
    keys.push_back({key.name, std::visit(TypeName(), key.value), std::visit(ToToml(), key.value),
                    key.meaning});
  }
  return keys;
}

}  // namespace trireme
