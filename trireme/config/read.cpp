#include <fmt/format.h>
#include <fmt/ranges.h>

#include <toml++/toml.h>
#include <algorithm>
#include <sstream>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/text.h"
#include "trireme/config/key.h"
#include "trireme/config/renamed.h"

namespace trireme {

namespace {

// Assigns a TOML value. Returns false if the value has the wrong type.
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
  bool operator()(std::optional<double>* to) const { return (*this)(&to->emplace()); }
  bool operator()(Duration* to) const {
    const auto text = node.value_exact<std::string>();
    if (!text) return (*this)(&to->seconds);
    const std::optional<Duration> duration = parse_duration(*text);
    if (duration) *to = *duration;
    return duration.has_value();
  }
  // The reader reads the keys of each group.
  bool operator()(ConfigKey::Groups* to) const {
    const toml::array* array = node.as_array();
    if (array == nullptr) return false;
    to->clear();
    for (const toml::node& item : *array) {
      if (!item.is_table()) return false;
      to->emplace_back();
    }
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

std::string with_article(const std::string& type) {
  if (type == "duration") return "a duration such as \"3h30m\", or seconds";
  return (type == "integer" ? "an " : type == "text" ? "" : "a ") + type;
}

// Reads TOML into a Config. Old names are errors, or what the new ones are in a run directory.
class Reader {
 public:
  using Source = Config::Origin::Source;
  /// Returns how errors name the place of a node.
  using Where = std::function<std::string(const toml::node&)>;

  explicit Reader(Config& config) : origins_(config.origins), keys_(schema_of(config)) {
    for (const ConfigKey& key : keys_) names_.push_back(key.name);
  }

  void read(const toml::table& table, Source source, const Where& where,
            const std::string& prefix = "") const {
    for (const auto& [key, node] : table) {
      const std::string name = prefix + std::string(key.str());
      if (const toml::table* section = node.as_table(); section && is_section(name)) {
        read(*section, source, where, name + ".");
      } else {
        set(name, node, source, where);
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
    return std::ranges::any_of(names_,
                               [&](const std::string& key) { return key.starts_with(name + "."); });
  }

  void set(std::string name, const toml::node& node, Source source, const Where& where) const {
    if (const std::string_view now = new_key(name); !now.empty()) {
      if (source != Source::kRunDirectory) {
        throw UsageError(fmt::format("{}: {} is now called {}", where(node), name, now));
      }
      name = now;
    }
    const auto key = std::ranges::find(keys_, name, &ConfigKey::name);
    if (key == keys_.end()) throw UsageError(fmt::format("{}: {}", where(node), unknown(name)));
    origins_[name] = {source, where(node)};
    const std::string old = node.value_or(std::string());
    if (const std::string_view now = new_value(name, old); !now.empty()) {
      if (source != Source::kRunDirectory) {
        throw UsageError(
            fmt::format("{}: {} = \"{}\" is now called \"{}\"", where(node), name, old, now));
      }
      return assign(*key, name, toml::value<std::string>(std::string(now)), where);
    }
    assign(*key, name, node, where);
  }

  // `name`: how errors call the key.
  void assign(const ConfigKey& key, const std::string& name, const toml::node& node,
              const Where& where) const {
    const auto refuse = [&](const std::string& wanted) {
      throw UsageError(
          fmt::format("{}: {} must be {}, got {}", where(node), name, wanted, shown(node)));
    };
    if (!std::visit(Assign{node}, key.value)) refuse(with_article(type_name(key.value)));
    if (const auto wanted = key.rule(key.value)) refuse(*wanted);
    if (const auto* groups = std::get_if<ConfigKey::Groups*>(&key.value)) {
      const toml::array& tables = *node.as_array();
      for (std::size_t i = 0; i < tables.size(); ++i) {
        read_group((**groups)[i], fmt::format("{}[{}]", name, i), *tables[i].as_table(), where);
      }
    }
  }

  void read_group(Config::Optimizer::Group& group, const std::string& name,
                  const toml::table& table, const Where& where) const {
    const std::vector<ConfigKey> keys = schema_of(group);
    for (const auto& [word, node] : table) {
      const auto key = std::ranges::find(keys, word.str(), &ConfigKey::name);
      if (key == keys.end()) {
        std::vector<std::string> known;
        for (const ConfigKey& one : keys) known.push_back(one.name);
        const std::string guess = nearest(word.str(), known);
        throw UsageError(fmt::format("{}: unknown key {}.{}; {}", where(node), name, word.str(),
                                     guess.empty()
                                         ? fmt::format("a group has {}", fmt::join(known, ", "))
                                         : fmt::format("did you mean {}?", guess)));
      }
      assign(*key, fmt::format("{}.{}", name, word.str()), node, where);
    }
  }

  std::string unknown(const std::string& name) const {
    const std::string message = fmt::format("unknown key {}", name);
    const std::string guess = meant_by(name);
    if (!guess.empty()) return message + fmt::format("; did you mean {}?", guess);
    return message + "; `trireme keys` lists them";
  }

  // A section that is misspelled, a key without its section, or the nearest key.
  std::string meant_by(const std::string& name) const {
    if (name.find('.') != std::string::npos) return nearest(name, names_);
    std::vector<std::string> sections;
    for (const std::string& key : names_) {
      if (key.ends_with("." + name)) return key;
      sections.push_back(key.substr(0, key.find('.')));
    }
    return nearest(name, sections);
  }

  std::map<std::string, Config::Origin>& origins_;
  std::vector<ConfigKey> keys_;
  std::vector<std::string> names_;
};

// `is_text`: whether a key takes text, which then needs no quotes, whatever it looks like.
toml::table parse_override(const std::string& text,
                           const std::function<bool(const std::string&)>& is_text) {
  const auto refused = [&] {
    return UsageError(
        fmt::format("command line: an override is section.key=value, got \"{}\"", text));
  };
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) throw refused();
  const std::string key = text.substr(0, equals);
  std::string value = text.substr(equals + 1);
  try {
    toml::table table = toml::parse(fmt::format("{} = {}", key, value));
    if (!is_text(key) || table.at_path(key).is_string()) return table;
  } catch (const toml::parse_error&) {
    // Text without quotes.
  }
  try {
    return toml::parse(fmt::format("{} = {}", key, toml_text(&value)));
  } catch (const toml::parse_error&) {
    throw refused();
  }
}

}  // namespace

Config parse_config(const std::string& text, const std::string& source,
                    std::span<const std::string> overrides, Config::Origin::Source kind) {
  Config config;
  const Reader reader(config);
  try {
    reader.read(toml::parse(text), kind, [&](const toml::node& node) {
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
    reader.read(parse_override(override_text, is_text), Config::Origin::Source::kCommandLine,
                [](const toml::node&) { return std::string("command line"); });
  }
  return config;
}

Config read_config(const std::filesystem::path& path, std::span<const std::string> overrides,
                   Files& files) {
  if (path.empty()) return parse_config("", "defaults", overrides);
  return parse_config(read_file(path, files), path.string(), overrides);
}

Config read_run_config(const std::filesystem::path& path, std::span<const std::string> overrides,
                       Files& files) {
  require_file(path, files);
  return parse_config(read_file(path, files), path.string(), overrides,
                      Config::Origin::Source::kRunDirectory);
}

}  // namespace trireme
