#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/server/part.h"
#include "trireme/server/version_vector.h"

namespace trireme::server {

/// The version of the protocol between workers and servers; both ends must have the same.
inline constexpr std::uint16_t kProtocol = 2;

enum class MessageType : std::uint8_t {
  kJoin = 1,    ///< a worker joins or rejoins: schema, shard
  kStore,       ///< writes initial values and optimizer state
  kPush,        ///< the gradients of a step; parts that read are replied to after the update
  kPull,        ///< reads at this worker's clock
  kFetch,       ///< reads the values as they are, from any program; without parts: the schema
  kDrain,       ///< the worker has pushed its last step; replied to once no other worker pushes
  kSave,        ///< the server writes its checkpoint
  kLeave,       ///< the last request of a worker; with a reason: it has failed, and so has the run
  kPing,        ///< a heartbeat, of a worker or of a primary to its replica
  kReply,       ///< from a server: the request is done
  kError,       ///< from a server: the request was rejected; error, reason
  kSnapshot,    ///< from a program that fetches a consistent snapshot; snapshot: what to do
  kReplicate,   ///< from a primary to its replica: the log entries from `entry` on follow; shard,
                ///< version
  kLost,        ///< a log entry: the worker is lost; reason
  kSuperseded,  ///< from a worker to a server whose partner runs without it: it must end
};

/// The error that the sender of a rejected request throws.
enum class ErrorCode : std::uint8_t {
  kNone,
  kUsage,
  kData,
  kComm,
  kStandby,  ///< from a replica whose primary is alive: ask the primary
};

enum class SnapshotAction : std::uint8_t {
  kNone,
  kPause,    ///< apply no more pushes; the reply has `progress`
  kAdvance,  ///< apply the pushes of `progress`, then reply
  kResume,
};

/// A server is number `index` of the `count` servers of its model.
struct ShardId {
  std::int32_t index = 0;
  std::int32_t count = 0;
  bool operator==(const ShardId&) const = default;
};

/// One message between a worker and a server, or between the servers of a pair. Each request has
/// one reply. Fields that a message type does not name keep their defaults.
struct Message {
  MessageType type = MessageType::kPing;
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;  ///< of the sending process: each start has another one
  std::uint64_t sequence = 0;  ///< of the request, from 1; a retransmission and the reply repeat it
  std::int64_t clock = 0;    ///< of the worker, in steps: in a push before it, in a reply after it
  std::int64_t version = 0;  ///< updates that the server has made
  std::uint64_t entry = 0;   ///< of the replication log: kReplicate: the next one; acknowledgments:
                             ///< the one that has been applied
  double lr = 0;
  double scale = 1;    ///< the gradients are multiplied by it
  double divisor = 0;  ///< of the sum over all workers; 0: the number of virtual workers
  ShardId shard;       ///< the server that the sender expects
  ErrorCode error = ErrorCode::kNone;
  bool has_all_values = false;  ///< in the reply to kJoin: no worker has to store initial values
  bool is_degraded = false;     ///< in replies: the server runs without its partner
  SnapshotAction snapshot = SnapshotAction::kNone;
  std::optional<VersionVector> progress;
  std::vector<Part> parts;

  // At most one of these texts is not empty.
  std::string schema;  ///< JSON (server/model_schema.h): kJoin, the reply to kFetch without parts
  std::string reason;  ///< kError, kLost, kLeave
  std::string waiting_for;  ///< in the reply to kPing: what the server waits for
  std::string file;         ///< in the reply to kSave

  std::size_t payload_bytes() const;
};

/// The reply to `request` of a server that has made `version` updates, without values.
Message reply_to(const Message& request, std::int64_t version);

/// The reply to a request that is rejected.
Message error_reply(const Message& request, ErrorCode error, std::string reason);

/// The worker of messages from programs that are not workers.
inline constexpr std::uint32_t kObserver = 0xffffffff;

/// All but the payloads (docs/format/parameter-server.md describes the bytes).
std::string encode_header(const Message& message);

/// True if these bytes begin a header of another version of the protocol.
bool is_of_another_protocol(std::span<const std::byte> header);

/// The sequence number in a header, even if the rest is invalid; 0 if it is too short.
std::uint64_t sequence_in(std::span<const std::byte> header);

/// Reads a message. The payloads lie in `bodies`, one after another, each padded to a multiple of 8
/// bytes except for the last of a body; no payload spans two bodies. The parts of the result point
/// into them. The bytes may be hostile: throws DataError unless everything is valid.
Message decode(std::span<const std::byte> header,
               std::span<const std::span<const std::byte>> bodies);

/// Bytes of a payload with its padding.
constexpr std::size_t padded(std::size_t bytes) {
  return (bytes + 7) / 8 * 8;
}

}  // namespace trireme::server
