#include "trireme/world/c10d/transfers.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/system_error.h"

namespace trireme::c10d {

namespace {

// Larger chunks are sent as several messages, because some lengths are ints.
constexpr std::size_t kMaxMessageBytes = std::size_t{1} << 30;

constexpr message::Deadline kNever = message::Deadline::max();

}  // namespace

class ChunkTransfer final : public message::Transfer {
 public:
  ChunkTransfer(std::shared_ptr<Transfers> transfers, GlooGroup& group, int tag,
                std::span<const message::Chunk> sends, std::span<const message::Chunk> recvs)
      : transfers_(std::move(transfers)) {
    const WithoutSigpipe without_sigpipe;
    for (const message::Chunk& chunk : recvs) begin(group, tag, Way::kRecv, chunk);
    for (const message::Chunk& chunk : sends) begin(group, tag, Way::kSend, chunk);
  }

  void wait(message::Deadline deadline) override {
    enter(deadline);
    try {
      if (failed_) throw *failed_;
      for (const Part& part : parts_) wait_for(part);
    } catch (...) {
      leave();
      // Gloo must not touch the memory of the chunks any more.
      parts_.clear();
      throw;
    }
    leave();
    parts_.clear();
  }

  void abort() override {
    const std::lock_guard lock(transfers_->mutex_);
    end_locked(CommError("gloo: the operation was given up on this rank"));
  }

  // The following three functions require the mutex of transfers_.
  void end_locked(CommError error) {
    if (end_) return;
    end_.emplace(std::move(error));
    if (!is_waiting_) return;
    for (const Part& part : parts_) part.work->abort();
  }

  void end_overdue_locked() {
    is_overdue_ = true;
    end_locked(CommError("gloo: the deadline has passed"));
  }

  message::Deadline deadline_locked() const { return end_ ? kNever : deadline_; }

 private:
  enum class Way { kSend, kRecv };

  struct Part {
    Way way = Way::kSend;
    int peer = 0;
    std::size_t bytes = 0;
    GlooWork work;
  };

  void begin(GlooGroup& group, int tag, Way way, const message::Chunk& chunk) {
    for (std::size_t first = 0; first < chunk.bytes && !failed_; first += kMaxMessageBytes) {
      const std::size_t bytes = std::min(kMaxMessageBytes, chunk.bytes - first);
      char* data = static_cast<char*>(chunk.data) + first;
      try {
        parts_.push_back({way, chunk.peer, bytes,
                          way == Way::kRecv ? group.begin_recv(data, bytes, chunk.peer, tag)
                                            : group.begin_send(data, bytes, chunk.peer, tag)});
      } catch (const std::exception& error) {
        failed_ = lost_peer(chunk.peer, short_reason(error));
      }
    }
  }

  void enter(message::Deadline deadline) {
    const std::lock_guard lock(transfers_->mutex_);
    deadline_ = deadline;
    is_waiting_ = true;
    transfers_->waiting_.push_back(this);
    if (deadline < transfers_->wakes_at_) transfers_->changed_.notify_one();
  }

  void leave() {
    const std::lock_guard lock(transfers_->mutex_);
    is_waiting_ = false;
    std::erase(transfers_->waiting_, this);
  }

  void wait_for(const Part& part) {
    throw_if_ended(part);
    bool is_done = false;
    try {
      is_done = part.work->wait(kForever);
    } catch (const std::exception& error) {
      throw lost_peer(part.peer, short_reason(error));
    }
    if (!is_done) throw_if_ended(part);
  }

  void throw_if_ended(const Part& part) {
    const std::lock_guard lock(transfers_->mutex_);
    if (!end_) return;
    if (!is_overdue_) throw *end_;
    throw CommError(fmt::format("gloo: rank {} has not {} all of {} bytes in time", part.peer,
                                part.way == Way::kRecv ? "sent" : "taken", part.bytes),
                    part.peer);
  }

  const std::shared_ptr<Transfers> transfers_;
  std::vector<Part> parts_;
  std::optional<CommError> failed_;  // when the transfer was begun
  // Guarded by the mutex of transfers_.
  std::optional<CommError> end_;
  message::Deadline deadline_;
  bool is_waiting_ = false;
  bool is_overdue_ = false;
};

Transfers::Transfers() : wakes_at_(kNever) {
  watcher_ = start_thread("gloo", [this] { watch(); });
}

Transfers::~Transfers() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_one();
  watcher_.join();
}

std::unique_ptr<message::Transfer> Transfers::begin(const std::shared_ptr<Transfers>& transfers,
                                                    GlooGroup& group, int tag,
                                                    std::span<const message::Chunk> sends,
                                                    std::span<const message::Chunk> recvs) {
  return std::make_unique<ChunkTransfer>(transfers, group, tag, sends, recvs);
}

void Transfers::watch() {
  leave_signals_to_others();
  std::unique_lock lock(mutex_);
  while (!is_over_) {
    wakes_at_ = end_overdue();
    if (wakes_at_ == kNever) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, wakes_at_);
    }
  }
}

message::Deadline Transfers::end_overdue() {
  const auto now = std::chrono::steady_clock::now();
  message::Deadline next = kNever;
  for (ChunkTransfer* transfer : waiting_) {
    const message::Deadline deadline = transfer->deadline_locked();
    if (deadline <= now) {
      transfer->end_overdue_locked();
    } else {
      next = std::min(next, deadline);
    }
  }
  return next;
}

CommError lost_peer(int peer, const std::string& reason) {
  return CommError(fmt::format("gloo: rank {} is lost: {}", peer, reason), peer);
}

}  // namespace trireme::c10d
