#include "trireme/comm/message/messages.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/comm/semantics.h"

namespace trireme::message {

Messages::Messages(Channel& channel, ReportFailure report_failure)
    : channel_(channel),
      report_failure_(std::move(report_failure)),
      peers_(static_cast<std::size_t>(channel.size())) {}

Messages::~Messages() {
  stop();
}

std::shared_ptr<Completion> Messages::send(const Operation& operation) {
  Request request{operation};
  const int to = operation.root;
  const std::lock_guard lock(mutex_);
  if (error_) {
    request.completion->complete(error_);
    return request.completion;
  }
  if (to == channel_.rank()) {
    send_to_self(operation);
    request.completion->complete();
    return request.completion;
  }
  // The frame is sent with the mutex held, so that announcements keep the order of the sends.
  Frame frame;
  frame.header = {
      .kind = FrameKind::kMessage, .call = operation, .site = CallSite(operation.where)};
  const std::size_t bytes = carried_bytes(operation);
  if (bytes <= kInlineBytes) {
    frame.set_payload({operation.in.as<char>(), bytes});
    channel_.send(to, frame);
    request.completion->complete();
    return request.completion;
  }
  channel_.send(to, frame);
  Peer& receiver = peer(to);
  receiver.outgoing.push_back(request);
  if (!receiver.sender.joinable())
    receiver.sender = start_thread("send", [this, to] { run_sender(to); });
  receiver.changed.notify_all();
  return request.completion;
}

void Messages::send_to_self(const Operation& operation) {
  Peer& self = peer(channel_.rank());
  announced(channel_.rank(), operation);
  const char* const bytes = operation.in.as<char>();
  self.messages.back().kept.assign(bytes, bytes + carried_bytes(operation));
  arrived(channel_.rank(), std::prev(self.messages.end()));
}

std::shared_ptr<Completion> Messages::recv(const Operation& operation) {
  const auto request = std::make_shared<Request>(Request{operation});
  const std::lock_guard lock(mutex_);
  if (error_) {
    request->completion->complete(error_);
    return request->completion;
  }
  Peer& sender = peer(operation.root);
  const auto message = std::ranges::find_if(sender.messages, [&](const Message& candidate) {
    return !candidate.request && is_for(candidate.sent, operation);
  });
  if (message == sender.messages.end()) {
    sender.wanted.push_back(request);
  } else {
    message->request = request;
    if (message->has_arrived) hand_over(operation.root, message);
  }
  return request->completion;
}

void Messages::on_message(int from, const Frame& frame) {
  const std::lock_guard lock(mutex_);
  if (error_) return;
  Peer& sender = peer(from);
  announced(from, frame.header.call);
  if (carried_bytes(frame.header.call) <= kInlineBytes) {
    sender.messages.back().kept.assign(frame.text().begin(), frame.text().end());
    arrived(from, std::prev(sender.messages.end()));
    return;
  }
  if (!sender.receiver.joinable()) {
    sender.receiver = start_thread("recv", [this, from] { run_receiver(from); });
  }
  sender.changed.notify_all();
}

// A message begins. It belongs to the oldest recv that waits for its tag, if there is one.
void Messages::announced(int from, const Call& call) {
  Peer& sender = peer(from);
  Message& message = sender.messages.emplace_back();
  message.sent = call;
  if (call.device != DeviceKind::kCpu) message.number = ++sender.from_devices;
  const auto wanted = std::ranges::find_if(
      sender.wanted, [&](const auto& request) { return is_for(call, request->operation); });
  if (wanted == sender.wanted.end()) return;
  message.request = *wanted;
  sender.wanted.erase(wanted);
}

void Messages::arrived(int from, MessageIterator message) {
  message->has_arrived = true;
  if (message->request) hand_over(from, message);
}

void Messages::run_sender(int to) {
  Peer& receiver = peer(to);
  std::unique_lock lock(mutex_);
  for (;;) {
    receiver.changed.wait(lock, [&] { return is_stopping_ || !receiver.outgoing.empty(); });
    if (receiver.outgoing.empty()) return;
    const Request request = receiver.outgoing.front();
    bool has_moved = false;
    if (!error_) {
      lock.unlock();
      const Buffer& x = request.operation.in;
      has_moved = move(request.operation, {{to, x.data, x.bytes()}}, {});
      lock.lock();
      // The report of the failure leads to end(), in bounded time.
      if (!has_moved) receiver.changed.wait(lock, [&] { return error_ != nullptr; });
    }
    request.completion->complete(has_moved ? nullptr : error_);
    receiver.outgoing.pop_front();
  }
}

void Messages::run_receiver(int from) {
  Peer& sender = peer(from);
  std::unique_lock lock(mutex_);
  for (;;) {
    auto next = sender.messages.end();
    sender.changed.wait(lock, [&] {
      next = std::ranges::find_if(sender.messages,
                                  [](const Message& message) { return !message.has_arrived; });
      return is_stopping_ || error_ || next != sender.messages.end();
    });
    if (is_stopping_ || error_) return;
    receive(from, next, lock);
  }
}

void Messages::receive(int from, MessageIterator message, std::unique_lock<std::mutex>& lock) {
  const std::size_t bytes = carried_bytes(message->sent);
  const bool is_direct = message->request && fits(message->sent, message->request->operation);
  if (!is_direct) message->kept.resize(bytes);
  void* target = is_direct ? message->request->operation.out.data : message->kept.data();
  message->is_arriving = true;
  Operation operation;
  if (message->request) {
    operation = message->request->operation;
  } else {
    // The message has no recv yet, so only the sender's call is known.
    static_cast<Call&>(operation) = message->sent;
    operation.root = from;
    operation.kind = OpKind::kRecv;
  }
  lock.unlock();
  const bool has_moved = move(operation, {}, {{from, target, bytes}});
  lock.lock();
  if (has_moved) {
    message->is_arriving = false;
    arrived(from, message);
    return;
  }
  peer(from).changed.wait(lock, [&] { return error_ != nullptr; });
  if (message->request) message->request->completion->complete(error_);
  peer(from).messages.erase(message);
}

// Must be called without the mutex. Returns false if the transfer has failed, which has then been
// reported.
bool Messages::move(const Operation& operation, std::vector<Chunk> sends,
                    std::vector<Chunk> receives) {
  const Deadline deadline = channel_.deadline();
  try {
    channel_.exchange(Channel::kMessageTag).move(std::move(sends), std::move(receives));
    return true;
  } catch (const Error&) {
    const bool timed_out = std::chrono::steady_clock::now() >= deadline;
    report_failure_(operation, std::current_exception(), timed_out);
    return false;
  }
}

// The message has arrived and its recv has been called.
void Messages::hand_over(int from, MessageIterator message) {
  const Operation& wanted = message->request->operation;
  Completion& completion = *message->request->completion;
  if (wanted.sender) *wanted.sender = {true, message->sent.device, message->number};
  if (!fits(message->sent, wanted)) {
    completion.complete(refusal_of(message->sent, from, wanted, channel_.rank(), channel_.size()));
  } else {
    if (!message->kept.empty()) {
      std::memcpy(wanted.out.data, message->kept.data(), message->kept.size());
    }
    completion.complete();
  }
  peer(from).messages.erase(message);
}

void Messages::end(const std::exception_ptr& error) {
  const std::lock_guard lock(mutex_);
  if (error_) return;
  error_ = error;
  for (Peer& peer : peers_) {
    for (const auto& request : peer.wanted) request->completion->complete(error);
    peer.wanted.clear();
    std::erase_if(peer.messages, [&](const Message& message) {
      if (message.is_arriving) return false;
      if (message.request) message.request->completion->complete(error);
      return true;
    });
    peer.changed.notify_all();
  }
}

void Messages::stop() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    for (Peer& peer : peers_) peer.changed.notify_all();
  }
  for (Peer& peer : peers_) {
    if (peer.sender.joinable()) peer.sender.join();
    if (peer.receiver.joinable()) peer.receiver.join();
  }
}

}  // namespace trireme::message
