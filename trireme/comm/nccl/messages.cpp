#include "trireme/comm/nccl/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <type_traits>

#include "trireme/base/error.h"

namespace trireme::nccl {

Messages::Messages(int rank, int size, Carry carry, std::chrono::milliseconds timeout)
    : rank_(rank),
      carry_(std::move(carry)),
      timeout_(timeout),
      peers_(static_cast<std::size_t>(size)) {}

std::shared_ptr<Transfer> Messages::start(const Operation& operation, Work matched, int device) {
  device_ = device;
  auto transfer = std::make_shared<Transfer>();
  transfer->operation = operation;
  transfer->matched = std::move(matched);
  Peer& other = peer(operation.root);
  if (operation.kind == OpKind::kRecv) {
    other.wanted.push_back(transfer);
  } else {
    transfer->number = ++other.sends;
    other.announced.push_back(transfer);
  }
  return transfer;
}

void Messages::refuse(int sender, std::uint64_t number) {
  answer(sender, number, false);
}

void Messages::advance() {
  for (int other = 0; other < std::ssize(peers_); ++other) {
    match(other);
    read_answers(other);
    Peer& to = peer(other);
    while (!to.answers.empty() && to.answers.front()->work.test()) to.answers.pop_front();
    to.outgoing.advance();
    to.incoming.advance();
  }
}

void Messages::match(int from) {
  auto& wanted = peer(from).wanted;
  // Those of one tag are matched in order.
  std::vector<std::int32_t> open_tags;
  for (auto next = wanted.begin(); next != wanted.end();) {
    const std::int32_t tag = (*next)->operation.tag;
    const bool is_behind = std::ranges::count(open_tags, tag) > 0;
    if (is_behind || !try_to_match(from, **next)) {
      if (!is_behind) open_tags.push_back(tag);
      ++next;
      continue;
    }
    const TransferRef transfer = *next;
    next = wanted.erase(next);
    if (!transfer->is_done) take(from, transfer);
  }
}

// False if nothing has come for it.
bool Messages::try_to_match(int from, Transfer& transfer) {
  const MatchedSend& sender = *transfer.operation.sender;
  try {
    return transfer.matched.test();
  } catch (const UsageError&) {
    // Without a match it is the communicator that is over.
    if (!sender.is_matched) throw;
    if (sender.device != DeviceKind::kCpu) answer(from, sender.number, false);
    transfer.finish(std::current_exception());
    return true;
  }
}

void Messages::take(int from, const TransferRef& transfer) {
  if (from == rank_) return take_own(transfer);
  answer(from, transfer->operation.sender->number, true);
  put(peer(from).incoming, transfer);
}

void Messages::take_own(const TransferRef& transfer) {
  const TransferRef send = extract(peer(rank_), transfer->operation.sender->number);
  if (transfer->operation.count > 0) return peer(rank_).incoming.copy(send, transfer);
  send->finish();
  transfer->finish();
}

// Both ends leave out what is empty.
void Messages::put(Line& line, const TransferRef& transfer) {
  if (transfer->operation.count == 0) return transfer->finish();
  transfer->deadline = std::chrono::steady_clock::now() + timeout_;
  line.add(transfer);
}

void Messages::answer(int sender, std::uint64_t number, bool is_taken) {
  if (sender == rank_) return extract(peer(rank_), number)->finish();
  Peer& to = peer(sender);
  Answer answer{.number = number, .is_taken = is_taken};
  if (is_taken && !to.incoming.is_connected()) {
    answer.receiver = handshake_of(rank_, device_, true);
    to.answers.push_back(note(OpKind::kSend, sender, answer));
    check_handshakes({&answer.receiver, 1});
    return to.incoming.connect(answer.receiver.id);
  }
  to.answers.push_back(note(OpKind::kSend, sender, answer));
}

void Messages::read_answers(int to) {
  Peer& receiver = peer(to);
  while (to != rank_ && !receiver.announced.empty()) {
    if (!receiver.expected) receiver.expected = note(OpKind::kRecv, to, {});
    if (!receiver.expected->work.test()) return;
    const Answer answer = receiver.expected->answer;
    receiver.expected.reset();
    on_answer(to, answer);
  }
}

void Messages::on_answer(int to, const Answer& answer) {
  Peer& receiver = peer(to);
  const TransferRef transfer = extract(receiver, answer.number);
  if (!answer.is_taken) return transfer->finish();
  if (!receiver.outgoing.is_connected()) {
    check_handshakes(std::array{handshake_of(rank_, device_, false), answer.receiver});
    receiver.outgoing.connect(answer.receiver.id);
  }
  put(receiver.outgoing, transfer);
}

std::unique_ptr<Messages::Note> Messages::note(OpKind kind, int other, const Answer& answer) {
  static_assert(std::is_trivially_copyable_v<Answer>);
  auto note = std::make_unique<Note>(Note{answer, Work()});
  Operation operation;
  operation.kind = kind;
  operation.is_note = true;
  operation.root = other;
  operation.dtype = DType::kU8;
  operation.count = sizeof(Answer);
  operation.in = operation.out = {&note->answer, operation.count, DType::kU8};
  note->work = carry_(operation);
  return note;
}

Messages::TransferRef Messages::extract(Peer& receiver, std::uint64_t number) {
  const auto found = std::ranges::find_if(
      receiver.announced, [&](const TransferRef& send) { return send->number == number; });
  if (found == receiver.announced.end()) {
    throw CommError(fmt::format("nccl: no message {} is under way (rank {} of {})", number, rank_,
                                peers_.size()));
  }
  TransferRef transfer = std::move(*found);
  receiver.announced.erase(found);
  return transfer;
}

bool Messages::is_settled() const {
  return std::ranges::all_of(peers_, [](const Peer& peer) {
    return peer.announced.empty() && peer.wanted.empty() && peer.answers.empty() &&
           !peer.outgoing.has_waiting() && !peer.incoming.has_waiting();
  });
}

bool Messages::is_idle() const {
  return is_settled() && std::ranges::all_of(peers_, [](const Peer& peer) {
           return peer.outgoing.is_idle() && peer.incoming.is_idle();
         });
}

void Messages::require_hope(const Transfer& transfer) {
  const Operation& operation = transfer.operation;
  const bool is_open = !transfer.is_done && !transfer.is_queued;
  if (!is_open || peers_.size() > 1) return;
  Peer& self = peer(rank_);
  const bool sends = operation.kind == OpKind::kSend;
  std::erase_if(sends ? self.announced : self.wanted,
                [&](const TransferRef& one) { return one.get() == &transfer; });
  throw UsageError(
      fmt::format("{} first, none was (rank {} of {})",
                  sends ? fmt::format("send: a recv with tag {} must be started", operation.tag)
                        : fmt::format("recv: a message with tag {} must be sent", operation.tag),
                  rank_, peers_.size()));
}

void Messages::close(bool is_idle) {
  std::vector<std::future<void>> closings;
  for (Peer& peer : peers_) {
    closings.push_back(peer.outgoing.begin_close(is_idle));
    closings.push_back(peer.incoming.begin_close(is_idle));
  }
  Link::wait_for_end(closings);
}

std::vector<cudaStream_t> Messages::streams() const {
  std::vector<cudaStream_t> streams;
  for (const Peer& peer : peers_) {
    for (const Line* line : {&peer.outgoing, &peer.incoming}) {
      if (line->stream()) streams.push_back(line->stream());
    }
  }
  return streams;
}

void Messages::clear() {
  for (Peer& peer : peers_) {
    peer.expected.reset();
    peer.answers.clear();
    peer.announced.clear();
    peer.wanted.clear();
  }
}

}  // namespace trireme::nccl
