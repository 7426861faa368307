#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace trireme::server {

/// The version of what workers and servers say to each other; both ends must have the same.
inline constexpr std::uint16_t kProtocol = 1;

enum class Verb : std::uint8_t {
  kJoin = 1,  ///< a worker comes, or comes back; text: the declaration; one part, whose range says
              ///< which server it takes this one for: number `first` of `count`
  kStore,     ///< values and optimizer state to begin with
  kPush,      ///< a step's gradients, the pulls among the parts answered afterwards
  kPull,      ///< parameters at this worker's clock
  kFetch,     ///< values and state as they are now, for whoever asks
  kSettle,    ///< answered once no other worker pushes any more
  kSave,      ///< text: the folder in which the server writes its checkpoint
  kLeave,     ///< a worker has done its last step
  kPing,      ///< is there and says so
  kAnswer,    ///< from a server: it is done; clock: how many updates it has made
  kRefusal,   ///< from a server: it is not; text: why
  kHold,      ///< from a program that fetches a cut: the server stops where it is, goes on to the
              ///< place in text, or goes on (server/cut.h)
  kFollow,    ///< from a server to its backup: what comes next is its journal, from entry
              ///< `sequence` on; clock: how many updates it had made before the first
  kLost,      ///< in a journal: the worker is lost; text: why
  kAlone,     ///< kAnswer from a server that goes on without the other of its pair; from a worker,
              ///< a ping that tells that other one so
};

/// The clock of a refusal: which error the worker throws.
inline constexpr std::uint8_t kUsageFault = 1;
inline constexpr std::uint8_t kDataFault = 2;
inline constexpr std::uint8_t kCommFault = 3;
/// Only a backup says so: the server that it follows is there, and is the one to ask.
inline constexpr std::uint8_t kBackupFault = 4;

/// What one part of a message is about, and what its payload holds.
enum class Form : std::uint8_t {
  kGradient = 1,  ///< `rows` rows of the range's elements
  kEncoded,       ///< the range's gradient, encoded (kernels/compress.h)
  kRowGradients,  ///< count keys (u64), then count rows of gradients (f32)
  kValues,        ///< the range's elements, of array `slot`
  kRowValues,     ///< count keys, then count rows of array `slot`
  kRange,         ///< nothing: the range is asked for
  kKeys,          ///< count keys: their rows are asked for
  kAllKeys,       ///< nothing: `count` keys from the `first` row on are asked for; in an answer
                  ///< those that there are
};

/// Which array of a table: 0 its values, i the optimizer's state array i - 1.
inline constexpr std::uint8_t kStepSlot = 255;  ///< how often each has been updated, i64

struct Part {
  std::uint32_t table = 0;
  Form form = Form::kRange;
  std::uint8_t slot = 0;
  bool empty = false;      ///< a gradient of zeros, which alone does not move a parameter
  std::int64_t first = 0;  ///< of a range
  std::int64_t count = 0;  ///< elements of a range, or keys
  std::span<const std::byte> payload;
};

/// What one end tells the other. Each request has one answer.
struct Message {
  Verb verb = Verb::kPing;
  std::uint32_t worker = 0;
  std::uint64_t life = 0;      ///< of the worker: another one after each start
  std::uint64_t sequence = 0;  ///< of the request, from 1; repeated as it was if it is sent again
  std::int64_t clock = 0;      ///< of the worker before this push
  double lr = 0;
  double scale = 1;  ///< the gradients are multiplied by it
  std::vector<Part> parts;
  std::string text;

  std::size_t payload_bytes() const;
};

/// What `request` is answered if it is not carried out: one of the faults above, and the reason.
Message refusal_of(const Message& request, std::uint8_t fault, std::string why);

/// The worker of messages from programs that only look.
inline constexpr std::uint32_t kObserver = 0xffffffff;

/// All but the payloads (docs/format/parameter-server.md has the bytes).
std::string encode_head(const Message& message);

/// Whether these are the first bytes of a head of trireme's, of another version of it.
bool is_of_another_protocol(std::span<const std::byte> head);

/// The sequence number in a head, whatever else is wrong with it; 0 if it is too short.
std::uint64_t sequence_in(std::span<const std::byte> head);

/// Reads it back. The payloads, one after another, each padded to a multiple of 8 bytes but for the
/// last of a body, lie in `bodies`; none lies in two. The message looks into them. Hostile bytes:
/// throws DataError unless everything is in its place.
Message decode(std::span<const std::byte> head, std::span<const std::span<const std::byte>> bodies);

/// Bytes of a payload with its padding.
constexpr std::size_t padded(std::size_t bytes) {
  return (bytes + 7) / 8 * 8;
}

}  // namespace trireme::server
