#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

/// Makes text of tokens as they stand in a vocabulary. Threads may share it.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  /// Changes the tokens; behind the last decoder they are joined.
  virtual void apply(std::vector<std::string>& tokens) const = 0;
};

/// Makes Hugging Face's ByteLevel, Metaspace, ByteFallback, Fuse, Strip, Replace or Sequence of
/// them; of null what puts a blank between tokens. Bytes that are not UTF-8 stay as they are.
/// Throws DataError with the name of another.
std::unique_ptr<TokenDecoder> token_decoder_of(const nlohmann::json& json);

}  // namespace trireme
