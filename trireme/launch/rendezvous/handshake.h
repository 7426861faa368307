#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "trireme/launch/rendezvous/job_secret.h"

namespace trireme::rendezvous {

/// How the two ends of a connection to a rendezvous prove that they belong to one job: a challenge
/// and a response, keyed with the secret of the job (BLAKE2b). The bytes:
///
///     server   greeting   "TRIRDV1\n", a nonce of 32 bytes
///     client   hello      "TRIRDV1\n", a nonce, a digest of the job id, a proof, each of 32 bytes
///     server   answer     a Verdict (1 byte), a proof
///
/// After the verdict kWelcome both send sealed messages: the length of the text (4 bytes, little
/// endian), the text, and a tag of 32 bytes. A tag depends on secret, nonces, direction and the
/// number of the message, so that nothing can be changed, repeated, left out or taken from another
/// connection.
inline constexpr std::size_t kDigestBytes = 32;
inline constexpr std::size_t kGreetingBytes = 8 + kDigestBytes;
inline constexpr std::size_t kHelloBytes = 8 + 3 * kDigestBytes;
inline constexpr std::size_t kAnswerBytes = 1 + kDigestBytes;
/// The longest text of a sealed message.
inline constexpr std::size_t kMostTextBytes = std::size_t{16} << 20;

using Digest = std::array<std::uint8_t, kDigestBytes>;

enum class Verdict : std::uint8_t {
  kWelcome = 'W',
  kOtherJob = 'J',     ///< the client names another job
  kOtherSecret = 'S',  ///< the client does not have the secret of this job
};

enum class Side : std::uint8_t { kServer = 's', kClient = 'c' };

/// What both ends know before they connect.
struct Identity {
  std::string job;   ///< id of the job; may be empty
  JobSecret secret;  ///< may be none
};

/// Seals the messages of one direction, or opens them. Not copied: a number is used once.
class Seal {
 public:
  Seal() = default;
  Seal(const Digest& session, Side sender);

  /// Returns the bytes of the next message. Throws UsageError for more than kMostTextBytes.
  std::string seal(std::string_view text);

  enum class Opened : std::uint8_t { kMore, kText, kForged };
  /// Takes the next message from the front of `bytes`, if all of it is there. kForged: these bytes
  /// are not what the other end has sealed, or the text is longer than kMostTextBytes.
  Opened open(std::string& bytes, std::string& text);

 private:
  Digest tag(std::string_view text) const;

  Digest key_{};
  std::uint64_t number_ = 0;
};

/// The messages of an accepted connection.
struct Session {
  Seal to_server;
  Seal to_client;
};

/// The end of the handshake on rank 0.
class ServerHandshake {
 public:
  explicit ServerHandshake(const Identity& identity);

  const std::string& greeting() const { return greeting_; }

  struct Answer {
    Verdict verdict = Verdict::kOtherSecret;
    std::string bytes;
    Session session;  ///< valid after kWelcome
  };
  /// Returns nothing if `hello` is not of this protocol. `hello` has kHelloBytes bytes.
  std::optional<Answer> answer(std::string_view hello) const;

 private:
  Identity identity_;
  Digest nonce_{};
  std::string greeting_;
};

/// The end of the handshake on a rank that connects.
class ClientHandshake {
 public:
  explicit ClientHandshake(const Identity& identity);

  /// Returns the hello, or nothing if `greeting` is not of this protocol.
  std::optional<std::string> hello(std::string_view greeting);

  /// Returns the verdict of an answer of kAnswerBytes bytes. A server that cannot prove that it has
  /// the secret is kOtherSecret whatever it says; nothing: not of this protocol.
  std::optional<Verdict> verdict(std::string_view answer) const;

  /// Valid after kWelcome.
  Session session() const;

 private:
  Identity identity_;
  Digest server_nonce_{};
  Digest nonce_{};
};

/// True if `begin`, the first bytes of a connection, may be the begin of a hello.
bool may_be_hello(std::string_view begin);

}  // namespace trireme::rendezvous
