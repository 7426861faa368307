// What rank 0 gets on the port of the rendezvous: a hello of any bytes; then sealed messages whose
// seal is right and whose text is any bytes, and bytes without a seal.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/launch/rendezvous/handshake.h"
#include "trireme/launch/rendezvous/requests.h"

namespace {

using namespace trireme::rendezvous;

constexpr std::size_t kMostStored = 4096;

void require(bool holds) {
  if (!holds) std::abort();
}

void handle_texts(std::string_view bytes) {
  KeyValueStore store(kMostStored);
  std::size_t at = 0;
  while (at < bytes.size()) {
    // A byte of length, then the text.
    const std::size_t length = static_cast<unsigned char>(bytes[at++]);
    const std::string_view text = bytes.substr(at, length);
    at += text.size();
    const auto request = decode_request(text);
    if (!request) continue;
    require(encode(*request) == text);
    const KeyValueStore::Result result = store.apply(*request);
    require(!result.value || result.value->size() <= kMostStored + text.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Identity identity{.job = "a job", .secret = trireme::JobSecret::random()};
  const ServerHandshake server(identity);
  if (const auto answer = server.answer(bytes.substr(0, kHelloBytes))) {
    // The proof cannot be guessed.
    require(answer->verdict != Verdict::kWelcome && answer->bytes.size() == kAnswerBytes);
  }
  ClientHandshake client(identity);
  if (client.hello(bytes.substr(0, kGreetingBytes))) client.verdict(bytes.substr(0, kAnswerBytes));
  std::string received(bytes);
  std::string text;
  Session session = client.session();
  require(session.to_server.open(received, text) != Seal::Opened::kText);
  handle_texts(bytes);
  return 0;
}
