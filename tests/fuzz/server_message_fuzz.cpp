// What a server gets from a network: frames of any bytes, decoded and handled by one that has a
// model. First byte: how the rest is cut into a head and two bodies.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/server/server.h"

namespace {

using trireme::server::Message;
using trireme::server::MessageType;
using trireme::server::ReplySink;
using trireme::server::Request;
using trireme::server::Server;

class Sink final : public ReplySink {
 public:
  std::span<std::byte> allocate_reply(const Request&, std::size_t, std::size_t bytes) override {
    memory_.assign(bytes / 8 + 1, 0);
    return {reinterpret_cast<std::byte*>(memory_.data()), bytes};
  }
  void send_reply(const Request&, const Message& reply) override {
    // What goes out can be read by the other end.
    const std::string header = encode_header(reply);
    if (reply.parts.empty()) trireme::server::decode(std::as_bytes(std::span(header)), {});
  }

 private:
  std::vector<std::uint64_t> memory_;
};

// The worker of incarnation 1 has joined and stored.
void begin(Server& server, Sink& sink) {
  const trireme::server::ModelSchema model{.dense = {{"w", 20}},
                                           .sparse = {{.name = "t", .width = 2}}};
  server.handle({.message = {.type = MessageType::kJoin,
                             .incarnation = 1,
                             .sequence = 1,
                             .shard = {0, 1},
                             .schema = to_json(model)}},
                {}, sink);
  const std::vector<float> values(20);
  server.handle({.message = {.type = MessageType::kStore,
                             .incarnation = 1,
                             .sequence = 2,
                             .parts = {{.kind = trireme::server::PartKind::kValues,
                                        .count = 20,
                                        .payload = std::as_bytes(std::span(values))}}}},
                {}, sink);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t left = size - 1;
  const std::size_t cut = std::min<std::size_t>(104 + 32 * (data[0] % 4), left);
  // 8-byte aligned, as transports hand them over.
  std::vector<std::uint64_t> first((left - cut) / 2 / 8 + 1);
  std::vector<std::uint64_t> second((left - cut) / 8 + 1);
  const std::size_t first_bytes = data[0] >= 128 ? (left - cut) / 2 / 8 * 8 : 0;
  std::memcpy(first.data(), data + 1 + cut, first_bytes);
  std::memcpy(second.data(), data + 1 + cut + first_bytes, left - cut - first_bytes);
  const std::vector<std::span<const std::byte>> bodies = {
      std::as_bytes(std::span(first)).first(first_bytes),
      std::as_bytes(std::span(second)).first(left - cut - first_bytes)};
  try {
    const Message message =
        trireme::server::decode(std::as_bytes(std::span(data + 1, cut)), bodies);
    Sink sink;
    Server server({.max_reply_bytes = 1 << 20, .max_model_bytes = 1 << 20});
    begin(server, sink);
    server.handle({.message = message}, {}, sink);
    server.handle({.message = message}, {}, sink);
    server.time_passed(std::chrono::minutes(1), sink);
  } catch (const trireme::DataError&) {
  }
  return 0;
}
