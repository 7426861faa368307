#include <fmt/format.h>
#include <fmt/ranges.h>

#include <toml++/toml.h>
#include <sstream>

#include "trireme/config/key.h"
#include "trireme/config/key_use.h"

namespace trireme {

namespace {

struct TypeName {
  std::string operator()(bool*) const { return "boolean"; }
  std::string operator()(std::int64_t*) const { return "integer"; }
  std::string operator()(double*) const { return "number"; }
  std::string operator()(std::optional<double>*) const { return "number"; }
  std::string operator()(std::string*) const { return "text"; }
  std::string operator()(Duration*) const { return "duration"; }
  std::string operator()(std::vector<std::int64_t>*) const { return "list of integers"; }
  std::string operator()(std::vector<double>*) const { return "list of numbers"; }
  std::string operator()(std::vector<std::string>*) const { return "list of texts"; }
  std::string operator()(ConfigKey::Groups*) const { return "list of groups"; }
};

struct ToToml {
  std::string operator()(const bool* x) const { return *x ? "true" : "false"; }
  std::string operator()(const std::int64_t* x) const { return fmt::format("{}", *x); }
  std::string operator()(const double* x) const {
    const std::string text = fmt::format("{}", *x);
    return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
  }
  std::string operator()(const std::optional<double>* x) const {
    return x->has_value() ? (*this)(&**x) : "";
  }
  std::string operator()(const std::string* x) const {
    std::ostringstream out;
    out << toml::value<std::string>(*x);
    return out.str();
  }
  std::string operator()(const Duration* x) const {
    const std::string text = to_string(*x);
    return x->seconds == 0 ? "0" : (*this)(&text);
  }
  // The keys of a group that say something.
  std::string operator()(const Config::Optimizer::Group* group) const {
    Config::Optimizer::Group copy = *group, defaults;
    const std::vector<ConfigKey> keys = schema_of(copy), unset = schema_of(defaults);
    std::vector<std::string> items;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const std::string value = toml_text(keys[i].value);
      if (value == toml_text(unset[i].value)) continue;
      items.push_back(fmt::format("{} = {}", keys[i].name, value));
    }
    return fmt::format("{{{}}}", fmt::join(items, ", "));
  }
  template <class T>
  std::string operator()(const std::vector<T>* list) const {
    std::vector<std::string> items;
    for (const T& item : *list) items.push_back((*this)(&item));
    return fmt::format("[{}]", fmt::join(items, ", "));
  }
};

}  // namespace

std::string type_name(const ConfigKey::Target& value) {
  return std::visit(TypeName(), value);
}

std::string toml_text(const ConfigKey::Target& value) {
  return std::visit(ToToml(), value);
}

std::string to_toml(const Config& config) {
  Config copy = config;
  std::string out;
  std::string section;
  const KeyUses uses(copy);
  for (const ConfigKey& key : uses.keys()) {
    if (!uses.is_used(key)) continue;
    const std::size_t dot = key.name.find('.');
    if (key.name.substr(0, dot) != section) {
      section = key.name.substr(0, dot);
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    }
    out += fmt::format("{} = {}\n", key.name.substr(dot + 1), toml_text(key.value));
  }
  return out;
}

std::vector<KeyDescription> config_keys() {
  Config defaults;
  Config::Optimizer::Group group;
  const KeyUses uses(defaults);
  std::vector<KeyDescription> all;
  const auto add = [&](const std::string& prefix, const ConfigKey& key) {
    all.push_back({prefix + key.name, type_name(key.value), toml_text(key.value), key.meaning,
                   uses.used_with(key), key.may_differ});
  };
  for (const ConfigKey& key : uses.keys()) {
    add("", key);
    if (!std::holds_alternative<ConfigKey::Groups*>(key.value)) continue;
    for (const ConfigKey& of_group : schema_of(group)) add(key.name + "[].", of_group);
  }
  return all;
}

}  // namespace trireme
