#include "trireme/server/zmq/standby.h"

#include <fmt/format.h>

#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

std::optional<Message> Standby::reply(Request& request, Answers& answers) {
  const Message& message = request.message;
  if (message.verb == Verb::kFollow) return follow(request);
  if (follows(request.from)) {
    primary_->heard = Clock::now();
    if (message.verb == Verb::kPing) return std::nullopt;
    return follow_entry(std::move(request), answers);
  }
  // Also workers say to a standby that they are there.
  if (message.verb == Verb::kPing) return std::nullopt;
  if (primary_is_gone()) {
    take_over();
    return std::nullopt;
  }
  return refusal_of(
      message, kBackupFault,
      fmt::format("server {} of {}: is a backup, and {}", options_.shard, options_.shards,
                  primary_ ? "the server that it follows is there"
                           : "no server has come that it could follow"));
}

Message Standby::follow(const Request& request) {
  const Message& message = request.message;
  const std::uint64_t done = primary_ ? primary_->done : 0;
  if (const std::string why = why_not(message, done); !why.empty()) {
    return refusal_of(message, kUsageFault, why);
  }
  if (!primary_) {
    options_.log(fmt::format("follows server {} of {}", options_.shard, options_.shards));
  }
  primary_ = {.life = message.life,
              .from = request.from,
              .next = message.sequence,
              .done = done,
              .heard = Clock::now()};
  return {.verb = Verb::kAnswer, .worker = kObserver, .sequence = 1};
}

// Why it does not follow whoever asks for that, having done so many entries; empty: it does.
std::string Standby::why_not(const Message& request, std::uint64_t done) const {
  const Part who = request.parts.empty() ? Part() : request.parts[0];
  if (who.first != options_.shard || who.count != options_.shards) {
    return fmt::format("it is the backup of server {} of {}, not of {} of {}", options_.shard,
                       options_.shards, who.first, who.count);
  }
  if (primary_ && primary_->life != request.life) return "it follows another server already";
  if (request.sequence > done + 1) {
    return fmt::format("the {} entries before {} have not come", request.sequence - done - 1,
                       request.sequence);
  }
  if (done == 0 && request.clock != server_.version()) {
    return fmt::format(
        "it begins after {} updates and the server after {}; restore both from the same files",
        server_.version(), request.clock);
  }
  return "";
}

Message Standby::follow_entry(Request entry, Answers& answers) {
  const std::uint64_t number = primary_->next++;
  // Else it came over an earlier connection.
  if (number > primary_->done) {
    if (entry.message.verb == Verb::kLost) peers_.forget(entry.message.worker);
    following_ = entry.message.sequence;
    server_.follow(std::move(entry), answers);
    following_.reset();
    primary_->done = number;
  }
  return {.verb = Verb::kAnswer, .sequence = number, .clock = server_.version()};
}

void Standby::check_followed(const Request& entry, const Message& answer) const {
  if (answer.verb != Verb::kRefusal || answer.clock == kCommFault) return;
  if (following_ != entry.message.sequence) return;
  throw CommError(fmt::format("server {} of {}: cannot follow: {}", options_.shard, options_.shards,
                              answer.text));
}

bool Standby::primary_is_gone() {
  if (!primary_) return false;
  if (Clock::now() - primary_->heard > options_.dead_after) return true;
  return !socket_.probe(primary_->from, kObserver);
}

void Standby::take_over() {
  options_.log(fmt::format("takes over after {} updates: the server that it followed is gone",
                           server_.version()));
  is_waiting_ = false;
  peers_.call_in();
}

}  // namespace trireme::server
