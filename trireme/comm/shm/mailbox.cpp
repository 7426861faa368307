#include "trireme/comm/shm/mailbox.h"

#include <algorithm>
#include <cstring>

#include "trireme/comm/semantics.h"

namespace trireme::shm {

namespace {

// Copies `length` bytes to position `at` of the stream, which may wrap around the end of the ring.
void copy_to_ring(Channel& channel, std::uint64_t at, const char* from, std::size_t length) {
  const std::size_t begin = at % kChannelBytes;
  const std::size_t first = std::min(length, kChannelBytes - begin);
  std::memcpy(channel.ring + begin, from, first);
  std::memcpy(channel.ring, from + first, length - first);
}

void copy_from_ring(const Channel& channel, std::uint64_t at, char* to, std::size_t length) {
  const std::size_t begin = at % kChannelBytes;
  const std::size_t first = std::min(length, kChannelBytes - begin);
  std::memcpy(to, channel.ring + begin, first);
  std::memcpy(to + first, channel.ring, length - first);
}

// Returns how many of the next `chunk` padded bytes are data, if `done` of `bytes` have been
// copied.
std::size_t data_in(std::size_t chunk, std::size_t done, std::size_t bytes) {
  return done >= bytes ? 0 : std::min(chunk, bytes - done);
}

}  // namespace

Mailbox::Mailbox(Peers& peers) : peers_(&peers), outboxes_(peers.size()), inboxes_(peers.size()) {}

std::size_t Mailbox::padded(std::size_t bytes) {
  return (bytes + sizeof(Header) - 1) / sizeof(Header) * sizeof(Header);
}

Mailbox::Header Mailbox::Header::of(const Call& call) {
  return {call.count, call.tag, call.dtype, call.device, call.is_note};
}

Call Mailbox::Header::call() const {
  Call call;
  call.kind = OpKind::kSend;
  call.count = count;
  call.tag = tag;
  call.dtype = dtype;
  call.device = device;
  call.is_note = is_note;
  return call;
}

std::shared_ptr<Transfer> Mailbox::send(const Operation& operation) {
  auto transfer = std::make_shared<Transfer>(operation);
  if (operation.root != peers_->rank()) {
    outboxes_[operation.root].queue.push_back(transfer);
    ++active_;
    return transfer;
  }
  // A message to this rank itself is copied at once, so that its recv may follow later.
  Inbox& inbox = inboxes_[operation.root];
  begin_message(inbox, operation);
  const auto message = std::prev(inbox.messages.end());
  message->kept.resize(carried_bytes(operation));
  if (!message->kept.empty()) {
    std::memcpy(message->kept.data(), operation.in.data, message->kept.size());
  }
  inbox.arriving = false;
  if (message->transfer) settle(operation.root, message);
  transfer->done = true;
  return transfer;
}

std::shared_ptr<Transfer> Mailbox::recv(const Operation& operation) {
  auto transfer = std::make_shared<Transfer>(operation);
  Inbox& inbox = inboxes_[operation.root];
  ++inbox.open;
  ++active_;
  const auto message =
      std::find_if(inbox.messages.begin(), inbox.messages.end(), [&](const Message& candidate) {
        return !candidate.transfer && is_for(candidate.sent, operation);
      });
  if (message == inbox.messages.end()) {
    inbox.wanted.push_back(transfer);
    return transfer;
  }
  message->transfer = transfer;
  const bool arriving = inbox.arriving && message == std::prev(inbox.messages.end());
  if (!arriving) settle(operation.root, message);
  return transfer;
}

bool Mailbox::advance() {
  bool moved = false;
  for (int peer = 0; active_ > 0 && peer < peers_->size(); ++peer) {
    while (push(peer)) moved = true;
    while (pull(peer)) moved = true;
  }
  return moved;
}

std::vector<int> Mailbox::awaited() const {
  std::vector<int> ranks;
  for (int peer = 0; peer < peers_->size(); ++peer) {
    if (!outboxes_[peer].queue.empty() || inboxes_[peer].open > 0) ranks.push_back(peer);
  }
  return ranks;
}

const Operation* Mailbox::awaiting(int peer) const {
  const Inbox& inbox = inboxes_[peer];
  if (!inbox.wanted.empty()) return &inbox.wanted.front()->operation;
  if (inbox.open > 0) return &inbox.messages.back().transfer->operation;
  const Outbox& outbox = outboxes_[peer];
  return outbox.queue.empty() ? nullptr : &outbox.queue.front()->operation;
}

void Mailbox::time_out() const {
  const int peer = awaited().front();
  peers_->time_out(peer, 0, *awaiting(peer), peers_->timeout());
}

bool Mailbox::push(int to) {
  Outbox& outbox = outboxes_[to];
  if (outbox.queue.empty()) return false;
  const Operation& operation = outbox.queue.front()->operation;
  Channel& channel = peers_->area().channel(peers_->rank(), to);
  const std::uint64_t written = channel.written.load();
  std::size_t space = kChannelBytes - (written - channel.read.load());
  std::uint64_t at = written;
  if (outbox.sent == 0) {
    if (space < sizeof(Header)) return false;
    const Header header = Header::of(operation);
    copy_to_ring(channel, at, reinterpret_cast<const char*>(&header), sizeof(Header));
    outbox.sent = sizeof(Header);
    space -= sizeof(Header);
    at += sizeof(Header);
  }
  const std::size_t bytes = carried_bytes(operation);
  const std::size_t done = outbox.sent - sizeof(Header);
  const std::size_t chunk = std::min(space, padded(bytes) - done);
  const std::size_t data = data_in(chunk, done, bytes);
  if (data > 0) copy_to_ring(channel, at, operation.in.as<char>() + done, data);
  outbox.sent += chunk;
  at += chunk;
  const bool complete = outbox.sent == sizeof(Header) + padded(bytes);
  if (at != written) {
    channel.written.store(at);
    peers_->nudge(to);
  }
  if (complete) {
    outbox.queue.front()->done = true;
    outbox.queue.pop_front();
    outbox.sent = 0;
    --active_;
  }
  return at != written;
}

void Mailbox::begin_message(Inbox& inbox, const Call& sent) {
  Message& message = inbox.messages.emplace_back();
  message.sent = sent;
  if (sent.device != DeviceKind::kCpu) message.number = ++inbox.from_devices;
  inbox.arriving = true;
  const auto wanted =
      std::find_if(inbox.wanted.begin(), inbox.wanted.end(),
                   [&](const auto& transfer) { return is_for(sent, transfer->operation); });
  if (wanted == inbox.wanted.end()) return;
  message.transfer = *wanted;
  inbox.wanted.erase(wanted);
}

bool Mailbox::pull(int from) {
  Inbox& inbox = inboxes_[from];
  if (inbox.open == 0 || from == peers_->rank()) return false;
  Channel& channel = peers_->area().channel(from, peers_->rank());
  const std::uint64_t read = channel.read.load();
  std::size_t ready = channel.written.load() - read;
  if (ready == 0) return false;
  std::uint64_t at = read;
  if (!inbox.arriving) {
    Header header;
    copy_from_ring(channel, at, reinterpret_cast<char*>(&header), sizeof(Header));
    at += sizeof(Header);
    ready -= sizeof(Header);
    begin_message(inbox, header.call());
    Message& message = inbox.messages.back();
    if (!message.transfer || !fits(message.sent, message.transfer->operation)) {
      message.kept.resize(carried_bytes(message.sent));
    }
  }
  const auto message = std::prev(inbox.messages.end());
  const std::size_t bytes = carried_bytes(message->sent);
  const std::size_t chunk = std::min(ready, padded(bytes) - message->arrived);
  const std::size_t data = data_in(chunk, message->arrived, bytes);
  if (data > 0) {
    char* target =
        message->kept.empty() ? message->transfer->operation.out.as<char>() : message->kept.data();
    copy_from_ring(channel, at, target + message->arrived, data);
  }
  message->arrived += chunk;
  channel.read.store(at + chunk);
  peers_->nudge(from);
  if (message->arrived == padded(bytes)) {
    inbox.arriving = false;
    if (message->transfer) settle(from, message);
  }
  return true;
}

// Completes a recv whose message has arrived.
void Mailbox::settle(int from, std::list<Message>::iterator message) {
  Transfer& transfer = *message->transfer;
  const Operation& operation = transfer.operation;
  if (operation.sender) *operation.sender = {true, message->sent.device, message->number};
  if (!fits(message->sent, operation)) {
    transfer.error = refusal_of(message->sent, from, operation, peers_->rank(), peers_->size());
  } else if (!message->kept.empty()) {
    std::memcpy(operation.out.data, message->kept.data(), message->kept.size());
  }
  transfer.done = true;
  Inbox& inbox = inboxes_[from];
  inbox.messages.erase(message);
  --inbox.open;
  --active_;
}

}  // namespace trireme::shm
