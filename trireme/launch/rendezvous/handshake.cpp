#include "trireme/launch/rendezvous/handshake.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"

namespace trireme::rendezvous {

namespace {

constexpr std::string_view kMagic = "TRIRDV1\n";
constexpr std::size_t kLengthBytes = 4;

// A keyed BLAKE2b over parts, each of which has a fixed length or comes last.
class KeyedHash {
 public:
  explicit KeyedHash(const std::uint8_t* key) {
    crypto_generichash_init(&state_, key, JobSecret::kBytes, kDigestBytes);
  }
  KeyedHash& add(std::string_view text) {
    crypto_generichash_update(&state_, reinterpret_cast<const unsigned char*>(text.data()),
                              text.size());
    return *this;
  }
  KeyedHash& add(const Digest& digest) {
    crypto_generichash_update(&state_, digest.data(), digest.size());
    return *this;
  }
  Digest end() {
    Digest digest{};
    crypto_generichash_final(&state_, digest.data(), digest.size());
    return digest;
  }

 private:
  crypto_generichash_state state_;
};

Digest digest_of(std::string_view text) {
  Digest digest{};
  crypto_generichash(digest.data(), digest.size(),
                     reinterpret_cast<const unsigned char*>(text.data()), text.size(), nullptr, 0);
  return digest;
}

Digest random_nonce() {
  Digest nonce{};
  if (sodium_init() < 0) throw UsageError("rendezvous: libsodium has no source of randomness");
  randombytes_buf(nonce.data(), nonce.size());
  return nonce;
}

std::string_view bytes_of(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

Digest digest_at(std::string_view bytes, std::size_t at) {
  Digest digest{};
  std::memcpy(digest.data(), bytes.data() + at, digest.size());
  return digest;
}

bool are_equal(const Digest& a, const Digest& b) {
  return sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

struct Nonces {
  Digest server;
  Digest client;
};

// `what` has 16 characters, so that no two purposes hash the same bytes.
Digest keyed(const Identity& identity, std::string_view what, const Nonces& nonces) {
  return KeyedHash(identity.secret.key().data())
      .add(what)
      .add(nonces.server)
      .add(nonces.client)
      .add(identity.job)
      .end();
}

Digest client_proof(const Identity& identity, const Nonces& nonces) {
  return keyed(identity, "proof of client ", nonces);
}

Digest server_proof(const Identity& identity, const Nonces& nonces) {
  return keyed(identity, "proof of server ", nonces);
}

Session session_of(const Identity& identity, const Nonces& nonces) {
  const Digest key = keyed(identity, "key of a session", nonces);
  return {.to_server = Seal(key, Side::kClient), .to_client = Seal(key, Side::kServer)};
}

void append_number(std::uint64_t number, std::size_t bytes, std::string& to) {
  for (std::size_t i = 0; i < bytes; ++i) to += static_cast<char>(number >> (8 * i) & 0xff);
}

}  // namespace

Seal::Seal(const Digest& session, Side sender) {
  const char side = static_cast<char>(sender);
  key_ = KeyedHash(session.data()).add({&side, 1}).end();
}

Digest Seal::tag(std::string_view text) const {
  std::string number;
  append_number(number_, sizeof number_, number);
  return KeyedHash(key_.data()).add(number).add(text).end();
}

std::string Seal::seal(std::string_view text) {
  if (text.size() > kMostTextBytes) {
    throw UsageError(fmt::format("rendezvous: a message must have at most {} bytes, got {}",
                                 kMostTextBytes, text.size()));
  }
  std::string bytes;
  bytes.reserve(kLengthBytes + text.size() + kDigestBytes);
  append_number(text.size(), kLengthBytes, bytes);
  bytes += text;
  bytes += bytes_of(tag(text));
  ++number_;
  return bytes;
}

Seal::Opened Seal::open(std::string& bytes, std::string& text) {
  if (bytes.size() < kLengthBytes) return Opened::kMore;
  std::size_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= std::size_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  if (length > kMostTextBytes) return Opened::kForged;
  if (bytes.size() < kLengthBytes + length + kDigestBytes) return Opened::kMore;
  text = bytes.substr(kLengthBytes, length);
  if (!are_equal(tag(text), digest_at(bytes, kLengthBytes + length))) return Opened::kForged;
  ++number_;
  bytes.erase(0, kLengthBytes + length + kDigestBytes);
  return Opened::kText;
}

ServerHandshake::ServerHandshake(const Identity& identity)
    : identity_(identity), nonce_(random_nonce()), greeting_(kMagic) {
  greeting_ += bytes_of(nonce_);
}

std::optional<ServerHandshake::Answer> ServerHandshake::answer(std::string_view hello) const {
  if (hello.size() != kHelloBytes || !hello.starts_with(kMagic)) return std::nullopt;
  const Nonces nonces{nonce_, digest_at(hello, kMagic.size())};
  const Digest job = digest_at(hello, kMagic.size() + kDigestBytes);
  const Digest proof = digest_at(hello, kMagic.size() + 2 * kDigestBytes);
  Answer answer;
  if (!are_equal(job, digest_of(identity_.job))) {
    answer.verdict = Verdict::kOtherJob;
  } else if (are_equal(proof, client_proof(identity_, nonces))) {
    answer.verdict = Verdict::kWelcome;
    answer.session = session_of(identity_, nonces);
  }
  answer.bytes = static_cast<char>(answer.verdict);
  // A client without the secret learns nothing from a proof that it does not get.
  answer.bytes += answer.verdict == Verdict::kWelcome ? bytes_of(server_proof(identity_, nonces))
                                                      : bytes_of(Digest{});
  return answer;
}

ClientHandshake::ClientHandshake(const Identity& identity)
    : identity_(identity), nonce_(random_nonce()) {}

std::optional<std::string> ClientHandshake::hello(std::string_view greeting) {
  if (greeting.size() != kGreetingBytes || !greeting.starts_with(kMagic)) return std::nullopt;
  server_nonce_ = digest_at(greeting, kMagic.size());
  std::string hello(kMagic);
  hello += bytes_of(nonce_);
  hello += bytes_of(digest_of(identity_.job));
  hello += bytes_of(client_proof(identity_, {server_nonce_, nonce_}));
  return hello;
}

std::optional<Verdict> ClientHandshake::verdict(std::string_view answer) const {
  if (answer.size() != kAnswerBytes) return std::nullopt;
  const auto verdict = static_cast<Verdict>(answer[0]);
  switch (verdict) {
    case Verdict::kOtherJob:
    case Verdict::kOtherSecret:
      return verdict;
    case Verdict::kWelcome:
      return are_equal(digest_at(answer, 1), server_proof(identity_, {server_nonce_, nonce_}))
                 ? verdict
                 : Verdict::kOtherSecret;
  }
  return std::nullopt;
}

Session ClientHandshake::session() const {
  return session_of(identity_, {server_nonce_, nonce_});
}

bool may_be_hello(std::string_view begin) {
  return begin.substr(0, kMagic.size()) == kMagic.substr(0, std::min(begin.size(), kMagic.size()));
}

}  // namespace trireme::rendezvous
