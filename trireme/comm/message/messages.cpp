#include "trireme/comm/message/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"

namespace trireme::message {

namespace {

std::size_t bytes_of(const Call& call) {
  return static_cast<std::size_t>(call.count) * size_of(call.dtype);
}

}  // namespace

Messages::Messages(Context context) : context_(std::move(context)), peers_(context_.size) {}

Messages::~Messages() {
  stop();
}

std::shared_ptr<Ticket> Messages::send(const Operation& operation) {
  auto ticket = std::make_shared<Ticket>();
  Frame frame;
  frame.header = {
      .kind = FrameKind::kMessage, .call = operation, .site = CallSite(operation.where)};
  const std::size_t bytes = operation.in.bytes();
  const int to = operation.root;
  if (to == context_.rank) {
    Peer& self = peers_[to];
    on_message(to, frame);
    Message& message = self.messages.back();
    message.kept.assign(operation.in.as<char>(), operation.in.as<char>() + bytes);
    message.arrived = true;
    if (message.receipt) settle(to, std::prev(self.messages.end()));
    ticket->done = true;
  } else if (bytes <= kInlineBytes) {
    frame.set_payload({operation.in.as<char>(), bytes});
    context_.say(to, frame);
    ticket->done = true;
  } else {
    // Announced here, so that messages keep the order in which they were sent.
    context_.say(to, frame);
    Peer& peer = peers_[to];
    peer.outgoing.push_back({operation, ticket});
    if (!peer.sender.joinable()) peer.sender = std::thread([this, to] { run_sender(to); });
    context_.changed.notify_all();
  }
  return ticket;
}

std::shared_ptr<Ticket> Messages::recv(const Operation& operation) {
  auto receipt = std::make_shared<Receipt>(Receipt{operation, std::make_shared<Ticket>()});
  Peer& peer = peers_[operation.root];
  const auto message =
      std::find_if(peer.messages.begin(), peer.messages.end(), [&](const Message& candidate) {
        return !candidate.receipt && candidate.sent.tag == operation.tag;
      });
  if (message == peer.messages.end()) {
    peer.wanted.push_back(receipt);
  } else {
    message->receipt = receipt;
    if (message->arrived) settle(operation.root, message);
  }
  return receipt->ticket;
}

void Messages::on_message(int from, const Frame& frame) {
  Peer& peer = peers_[from];
  Message& message = peer.messages.emplace_back();
  message.sent = frame.header.call;
  const auto wanted =
      std::find_if(peer.wanted.begin(), peer.wanted.end(),
                   [&](const auto& receipt) { return receipt->operation.tag == message.sent.tag; });
  if (wanted != peer.wanted.end()) {
    message.receipt = *wanted;
    peer.wanted.erase(wanted);
  }
  if (from == context_.rank) return;
  if (bytes_of(message.sent) <= kInlineBytes) {
    message.kept.assign(frame.text().begin(), frame.text().end());
    message.arrived = true;
    if (message.receipt) settle(from, std::prev(peer.messages.end()));
    return;
  }
  if (!peer.receiver.joinable()) peer.receiver = std::thread([this, from] { run_receiver(from); });
  context_.changed.notify_all();
}

void Messages::run_sender(int to) {
  Peer& peer = peers_[to];
  std::unique_lock lock(context_.mutex);
  for (;;) {
    context_.changed.wait(lock, [&] { return stopping_ || !peer.outgoing.empty(); });
    if (peer.outgoing.empty()) return;
    const Receipt job = peer.outgoing.front();
    std::exception_ptr error = error_;
    if (!error) {
      lock.unlock();
      try {
        const Buffer& x = job.operation.in;
        context_.exchange(job.operation).move({{to, x.data, x.bytes()}}, {});
      } catch (const Error&) {
        error = std::current_exception();
        context_.fail(job.operation, error);
      }
      lock.lock();
      if (error) error = error_;
    }
    job.ticket->error = error;
    job.ticket->done = true;
    peer.outgoing.pop_front();
    context_.changed.notify_all();
  }
}

void Messages::run_receiver(int from) {
  Peer& peer = peers_[from];
  std::unique_lock lock(context_.mutex);
  for (;;) {
    auto next = peer.messages.end();
    context_.changed.wait(lock, [&] {
      next = std::find_if(peer.messages.begin(), peer.messages.end(),
                          [](const Message& message) { return !message.arrived; });
      return stopping_ || error_ || next != peer.messages.end();
    });
    if (stopping_ || error_) return;
    receive(from, next, lock);
  }
}

void Messages::receive(int from, std::list<Message>::iterator message,
                       std::unique_lock<std::mutex>& lock) {
  const std::size_t bytes = bytes_of(message->sent);
  const bool straight = message->receipt && fits(*message);
  if (!straight) message->kept.resize(bytes);
  void* target = straight ? message->receipt->operation.out.data : message->kept.data();
  message->arriving = true;
  // The announcement is the sender's; who asked for it may be nobody yet.
  Operation operation;
  static_cast<Call&>(operation) = message->sent;
  operation.root = from;
  operation.kind = OpKind::kRecv;
  if (message->receipt) operation = message->receipt->operation;
  std::exception_ptr error;
  lock.unlock();
  try {
    context_.exchange(operation).move({}, {{from, target, bytes}});
  } catch (const Error&) {
    error = std::current_exception();
    context_.fail(operation, error);
  }
  lock.lock();
  message->arriving = false;
  message->arrived = true;
  if (error) {
    if (message->receipt) {
      message->receipt->ticket->error = error_ ? error_ : error;
      message->receipt->ticket->done = true;
    }
    peers_[from].messages.erase(message);
  } else if (message->receipt) {
    settle(from, message);
  }
  context_.changed.notify_all();
}

bool Messages::fits(const Message& message) {
  return message.sent.count == message.receipt->operation.count &&
         message.sent.dtype == message.receipt->operation.dtype;
}

// The message is there and its recv as well.
void Messages::settle(int from, std::list<Message>::iterator message) {
  const Receipt& receipt = *message->receipt;
  const Operation& wanted = receipt.operation;
  if (!fits(*message)) {
    receipt.ticket->error = std::make_exception_ptr(UsageError(
        fmt::format("recv: rank {} sent {}[{}] with tag {}, wanted {}[{}] (rank {} of {})", from,
                    name_of(message->sent.dtype), message->sent.count, message->sent.tag,
                    name_of(wanted.dtype), wanted.count, context_.rank, context_.size)));
  } else if (!message->kept.empty()) {
    std::memcpy(wanted.out.data, message->kept.data(), message->kept.size());
  }
  receipt.ticket->done = true;
  peers_[from].messages.erase(message);
  context_.changed.notify_all();
}

void Messages::end(const std::exception_ptr& error) {
  if (error_) return;
  error_ = error;
  for (Peer& peer : peers_) {
    const auto fail = [&](const std::shared_ptr<Receipt>& receipt) {
      receipt->ticket->error = error;
      receipt->ticket->done = true;
    };
    for (const auto& receipt : peer.wanted) fail(receipt);
    peer.wanted.clear();
    for (const Message& message : peer.messages) {
      if (message.receipt && !message.arriving) fail(message.receipt);
    }
    std::erase_if(peer.messages, [](const Message& message) { return !message.arriving; });
  }
  context_.changed.notify_all();
}

const Operation* Messages::waiting_for(int peer) const {
  const Peer& other = peers_[peer];
  if (!other.wanted.empty()) return &other.wanted.front()->operation;
  for (const Message& message : other.messages) {
    if (message.receipt) return &message.receipt->operation;
  }
  return other.outgoing.empty() ? nullptr : &other.outgoing.front().operation;
}

void Messages::stop() {
  {
    const std::lock_guard lock(context_.mutex);
    stopping_ = true;
    context_.changed.notify_all();
  }
  for (Peer& peer : peers_) {
    if (peer.sender.joinable()) peer.sender.join();
    if (peer.receiver.joinable()) peer.receiver.join();
  }
}

}  // namespace trireme::message
