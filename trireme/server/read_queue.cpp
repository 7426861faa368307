#include "trireme/server/read_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

void ReadQueue::add(Request request) {
  const Message& message = request.message;
  const bool is_overtaken = std::ranges::any_of(requests_, [&](const Request& other) {
    return other.message.worker == message.worker &&
           other.message.incarnation == message.incarnation &&
           other.message.sequence > message.sequence;
  });
  if (is_overtaken) throw CommError("message: came after a later one of the same worker");
  remove(message.worker);
  requests_.push_back(std::move(request));
}

void ReadQueue::remove(std::uint32_t worker) {
  std::erase_if(requests_, [&](const Request& r) { return r.message.worker == worker; });
}

void ReadQueue::reply_ready(const ConsistencyPolicy& policy, ReplySink& sink) {
  std::vector<Request> still;
  std::vector<Request> waiting = std::exchange(requests_, {});
  for (Request& request : waiting) {
    const Message& message = request.message;
    if (!state_.has_failed_worker && may_reply(message, policy)) {
      reply(request, sink);
    } else if (!state_.failure.empty() &&
               (message.type != MessageType::kDrain || state_.has_failed_worker)) {
      sink.send_reply(request, error_reply(message, ErrorCode::kComm, state_.failure));
    } else {
      still.push_back(std::move(request));
    }
  }
  std::ranges::move(still, std::back_inserter(requests_));
}

bool ReadQueue::may_reply(const Message& request, const ConsistencyPolicy& policy) const {
  if (request.type == MessageType::kDrain) return state_.members.is_last(request.worker);
  const bool reads =
      std::ranges::any_of(request.parts, [](const Part& part) { return !part.is_gradient(); });
  return !reads || policy.may_read(request);
}

void ReadQueue::reply(const Request& request, ReplySink& sink) const {
  if (request.from == kNoReply) return;
  Message reply = reply_to(request.message, state_.version);
  const std::uint32_t worker = request.message.worker;
  if (worker < state_.members.size()) reply.clock = state_.members[worker].clock;
  for (std::size_t i = 0; i < request.message.parts.size(); ++i) {
    Part part = request.message.parts[i];
    if (part.is_gradient()) continue;
    const std::span<std::byte> out = sink.allocate_reply(request, i, state_.store->bytes_of(part));
    state_.store->read(part, out);
    part.payload = out;
    switch (part.kind) {
      case PartKind::kReadRange:
        part.kind = PartKind::kValues;
        break;
      case PartKind::kReadRows:
        part.kind = PartKind::kRowValues;
        break;
      default:  // kReadKeys: the keys that there are
        part.count = static_cast<std::int64_t>(out.size() / sizeof(std::uint64_t));
    }
    reply.parts.push_back(part);
  }
  sink.send_reply(request, reply);
}

}  // namespace trireme::server
