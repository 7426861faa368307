#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/comm/mpi/transport-inl.h"

namespace trireme::mpi {

namespace {

// abort() must take effect within 100 ms; the destructor may take longer.
constexpr std::chrono::milliseconds kDrainAtOnce{50};
constexpr std::chrono::seconds kDrain{2};

// Counts a thread that waits for a transfer; it also receives frames, so the listener may sleep
// longer.
class Waiting {
 public:
  explicit Waiting(MpiTransport& transport) : transport_(transport) { ++transport_.waiters; }
  ~Waiting() { --transport_.waiters; }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  MpiTransport& transport_;
};

class MpiTransfer final : public Transfer {
 public:
  MpiTransfer(MpiTransport& transport, int tag, std::span<const Chunk> sends,
              std::span<const Chunk> recvs);
  ~MpiTransfer() override;
  void wait(Deadline deadline) override;
  void abort() override { is_aborted_ = true; }

 private:
  Way* first_under_way();
  // Returns true once MPI does not use the memory of this transfer any more.
  bool drain(Clock::duration bound);
  CommError why_not_done();

  MpiTransport& transport_;
  std::vector<std::shared_ptr<Way>> ways_;
  std::size_t bytes_ = 0;
  bool is_over_ = false;
  std::atomic<bool> is_aborted_ = false;
};

MpiTransfer::MpiTransfer(MpiTransport& transport, int tag, std::span<const Chunk> sends,
                         std::span<const Chunk> recvs)
    : transport_(transport) {
  const auto locked = transport_.engine().lock();
  transport_.advance();  // a withdrawn chunk must not be sent
  const auto add = [&](const Chunk& chunk, bool is_send) {
    bytes_ += chunk.bytes;
    ways_.push_back(std::make_shared<Way>(Way{.chunk = chunk, .tag = tag, .is_send = is_send}));
  };
  for (const Chunk& chunk : recvs) {
    add(chunk, false);
    transport_.open_receive(*ways_.back());
  }
  for (const Chunk& chunk : sends) {
    add(chunk, true);
    transport_.open_send(ways_.back());
  }
}

MpiTransfer::~MpiTransfer() {
  if (is_over_ || drain(kDrain)) return;
  Engine& engine = transport_.engine();
  const auto locked = engine.lock();
  const Way* const way = first_under_way();
  if (way == nullptr) return;
  engine.abandon(fmt::format(
      "mpi: a transfer with rank {} was given up half way and cannot be called back; start the "
      "program again ({})",
      way->chunk.peer, transport_.name_self()));
}

void MpiTransfer::wait(Deadline deadline) {
  if (is_over_) return;
  const Waiting waiting(transport_);
  const Backoff backoff(bytes_);
  for (;;) {
    {
      const auto locked = transport_.engine().lock();
      transport_.engine().require_usable();
      transport_.advance();
      const Way* const way = first_under_way();
      if (way == nullptr && !is_aborted_) {
        is_over_ = true;
        return;
      }
      if (is_aborted_ || !way->error.empty() || Clock::now() > deadline) break;
    }
    backoff.pause();
  }
  const CommError error = why_not_done();
  is_over_ = drain(kDrainAtOnce);
  throw error;
}

CommError MpiTransfer::why_not_done() {
  const auto locked = transport_.engine().lock();
  const Way* const way = first_under_way();
  if (way == nullptr || is_aborted_) {
    return CommError(fmt::format("mpi: a transfer was ended ({})", transport_.name_self()));
  }
  transport_.engine().mark_failed();
  const int peer = way->chunk.peer;
  if (!way->error.empty()) {
    return CommError(fmt::format("mpi: {} ({})", way->error, transport_.name_self()), peer);
  }
  return CommError(fmt::format("mpi: rank {} did not {} {} bytes with tag {} in time ({})", peer,
                               way->is_send ? "take" : "send", way->chunk.bytes, way->tag,
                               transport_.name_self()),
                   peer);
}

Way* MpiTransfer::first_under_way() {
  for (const auto& way : ways_) {
    if (!transport_.is_done(*way)) return way.get();
  }
  return nullptr;
}

bool MpiTransfer::drain(Clock::duration bound) {
  const auto until = Clock::now() + bound;
  const Backoff backoff;
  for (;;) {
    {
      const auto locked = transport_.engine().lock();
      if (!transport_.engine().why_abandoned().empty()) return true;
      for (const auto& way : ways_) {
        if (!transport_.is_done(*way)) transport_.give_up(*way);
      }
      transport_.advance();
      if (first_under_way() == nullptr) return true;
      transport_.engine().mark_failed();
    }
    if (Clock::now() > until) return false;
    backoff.pause();
  }
}

}  // namespace

std::unique_ptr<Transfer> MpiTransport::begin(int tag, std::span<const Chunk> sends,
                                              std::span<const Chunk> recvs) {
  return std::make_unique<MpiTransfer>(*this, tag, sends, recvs);
}

}  // namespace trireme::mpi
