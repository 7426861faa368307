#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace trireme::rendezvous {

/// What a rank may ask of the store of a rendezvous.
enum class RequestKind : std::uint8_t {
  kRead = 1,    ///< the value, if there is one
  kWrite,       ///< sets the value
  kAdd,         ///< adds the number `value` to the number at the key (0 at first); its decimal text
  kCompareSet,  ///< sets the value if it is `expected`, or if both are missing; the value after it
  kErase,       ///< removes the key; a value if it was there
  kCount,       ///< the number of keys, in decimal
};

struct StoreRequest {
  RequestKind kind = RequestKind::kRead;
  std::string key;
  std::string expected;  ///< of kCompareSet
  std::string value;
};

/// The bytes of a request: kind (1 byte); length of the key, length of `expected` (4 bytes each,
/// little endian); key, expected and value, one after another.
std::string encode(const StoreRequest& request);
/// Returns nothing if the bytes are no request; they may be hostile.
std::optional<StoreRequest> decode_request(std::string_view bytes);

/// The bytes of a reply: 1 and the value, or 0 if there is none.
std::string encode_reply(const std::optional<std::string>& value);

/// The keys and values of a rendezvous. Every rank of a job may write any key. One thread.
class KeyValueStore {
 public:
  /// `max_bytes`: of all keys and values, each with kEntryBytes for what the map needs.
  explicit KeyValueStore(std::size_t max_bytes) : max_bytes_(max_bytes) {}
  static constexpr std::size_t kEntryBytes = 128;

  struct Result {
    bool is_refused = false;  ///< it would exceed the limit, or is not a number to be added
    std::optional<std::string> value;
  };
  Result apply(const StoreRequest& request);

 private:
  Result write(const std::string& key, const std::string& value);

  std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  std::map<std::string, std::string> values_;
};

}  // namespace trireme::rendezvous
