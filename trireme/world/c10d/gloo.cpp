#include "trireme/world/c10d/gloo.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <thread>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/world/c10d/frame_lane.h"
#include "trireme/world/c10d/join.h"
#include "trireme/world/c10d/native.h"
#include "trireme/world/c10d/transfers.h"

namespace trireme::c10d {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLinger{2000};

// The state that the threads of a transport use. A thread that cannot be ended shares its
// ownership.
class Engine {
 public:
  explicit Engine(Joined joined) : joined_(std::move(joined)) {}

  GlooGroup& chunks() { return *joined_.chunks; }
  const c10::intrusive_ptr<GlooGroup>& frames() { return joined_.frames; }

  void put(message::Arrival arrival) {
    const std::lock_guard lock(mutex_);
    if (!arrival.lost.empty()) {
      if (lost_rank_ < 0) {
        lost_rank_ = arrival.from;
        lost_reason_ = arrival.lost;
      }
      // Gloo notifies only the neighbors of a lost rank; the others would wait for them.
      if (is_native_) joined_.chunks->close();
    }
    arrivals_.push_back(std::move(arrival));
    changed_.notify_all();
  }

  std::optional<message::Arrival> next(milliseconds patience) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, patience, [&] { return !arrivals_.empty(); })) return {};
    message::Arrival arrival = std::move(arrivals_.front());
    arrivals_.pop_front();
    return arrival;
  }

  GlooWork begin(const Operation& operation) {
    const std::lock_guard lock(mutex_);
    if (lost_rank_ >= 0) throw lost_peer(lost_rank_, lost_reason_);
    GlooWork work = begin_native(*joined_.chunks, operation);
    is_native_ = work.defined();
    return work;
  }

  void end_native() {
    const std::lock_guard lock(mutex_);
    is_native_ = false;
  }

  // Throws the loss of a rank if there is one. A collective may fail before the loss is recorded.
  [[noreturn]] void throw_failure(const std::string& reason) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, milliseconds(200), [&] { return lost_rank_ >= 0; });
    if (lost_rank_ >= 0) throw lost_peer(lost_rank_, lost_reason_);
    throw CommError("gloo: " + reason);
  }

  void run(std::function<void()> body) {
    const std::lock_guard lock(mutex_);
    threads_.push_back(start_thread("gloo", [this, body = std::move(body)] {
      leave_signals_to_others();
      body();
      const std::lock_guard ended(mutex_);
      --running_;
      changed_.notify_all();
    }));
    ++running_;
  }

  // Returns false if some threads have not ended.
  bool join(message::Deadline deadline) {
    std::unique_lock lock(mutex_);
    const bool all_ended = changed_.wait_until(lock, deadline, [&] { return running_ == 0; });
    lock.unlock();
    for (std::thread& thread : threads_) all_ended ? thread.join() : thread.detach();
    return all_ended;
  }

  std::vector<std::unique_ptr<FrameLane>> lanes;  // by rank; this rank's is null

 private:
  Joined joined_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<message::Arrival> arrivals_;
  int lost_rank_ = -1;  // the first
  std::string lost_reason_;
  bool is_native_ = false;
  int running_ = 0;
  std::vector<std::thread> threads_;
};

class GlooTransport final : public message::Transport {
 public:
  GlooTransport(const Rendezvous& rendezvous, Joined joined)
      : Transport(rendezvous.rank, rendezvous.world_size),
        engine_(std::make_unique<Engine>(std::move(joined))) {
    const c10::intrusive_ptr<GlooGroup> frames = engine_->frames();
    engine_->lanes.resize(size());
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      engine_->lanes[peer] = std::make_unique<FrameLane>(
          frames, peer,
          [engine = engine_.get()](message::Arrival arrival) { engine->put(std::move(arrival)); });
      FrameLane* lane = engine_->lanes[peer].get();
      engine_->run([lane] { lane->receive(); });
      engine_->run([lane] { lane->release(); });
    }
  }

  ~GlooTransport() override {
    const auto linger = Clock::now() + kLinger;
    for (const auto& lane : engine_->lanes) {
      if (lane) lane->drain(linger);
    }
    for (const auto& lane : engine_->lanes) {
      if (lane) lane->stop();
    }
    const bool all_ended = engine_->join(Clock::now() + kLinger);
    // Not destroyed, because a thread of Gloo still uses it.
    if (!all_ended || is_stuck_) static_cast<void>(engine_.release());
  }

  std::string name() const override { return "gloo"; }
  int tags() const override { return GlooGroup::kClosingTag; }

  void send_frame(int to, const message::Frame& frame) override {
    engine_->lanes.at(to)->send(frame);
  }

  std::optional<message::Arrival> next_frame(milliseconds patience) override {
    return engine_->next(patience);
  }

  std::unique_ptr<message::Transfer> begin(int tag, std::span<const message::Chunk> sends,
                                           std::span<const message::Chunk> recvs) override {
    return Transfers::begin(transfers_, engine_->chunks(), tag, sends, recvs);
  }

  bool run_native(const Operation& operation, message::Deadline deadline) override {
    const GlooWork work = engine_->begin(operation);
    if (!work) return false;
    const auto left =
        std::chrono::duration_cast<milliseconds>(deadline - Clock::now()) + milliseconds(1);
    std::string failure;
    try {
      // Zero would mean forever.
      work->wait(std::clamp(left, milliseconds(1), kForever));
    } catch (const std::exception& error) {
      failure = short_reason(error);
    }
    if (failure.empty()) {
      engine_->end_native();
      finish_native(operation);
      return true;
    }
    if (!work->isCompleted()) {
      failure = "the other ranks did not carry the operation out in time";
      end(*work);
    }
    engine_->end_native();
    engine_->throw_failure(failure);
  }

 private:
  // Gloo must not touch the operation's buffers any more.
  void end(::c10d::Work& work) {
    engine_->chunks().close();
    try {
      work.wait(kLinger);
    } catch (const std::exception&) {
    }
    is_stuck_ = !work.isCompleted();
  }

  std::unique_ptr<Engine> engine_;
  std::shared_ptr<Transfers> transfers_ = std::make_shared<Transfers>();
  bool is_stuck_ = false;
};

}  // namespace

std::unique_ptr<message::Transport> gloo(const Rendezvous& rendezvous) {
  return std::make_unique<GlooTransport>(rendezvous, join(rendezvous));
}

}  // namespace trireme::c10d
