#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace trireme {

/// Changes a text before it is cut into pieces. Threads may share it.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string apply(std::string_view text) const = 0;
};

/// Makes Hugging Face's NFC, Prepend, Replace or Sequence of them; null of null. Throws DataError
/// with the name of another.
std::unique_ptr<Normalizer> normalizer_of(const nlohmann::json& json);

}  // namespace trireme
