#pragma once

// Internal to the sources that include MPI's header.

#include <fmt/format.h>
#include <mpi.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trireme/comm/mpi/engine.h"
#include "trireme/comm/mpi/native.h"
#include "trireme/comm/mpi/roll_call.h"

namespace trireme::mpi {

using Clock = std::chrono::steady_clock;
using message::Arrival;
using message::Chunk;
using message::Deadline;
using message::Frame;
using message::Transfer;

// Chunks of at most this many bytes are copied and sent at once. A larger chunk is sent after its
// receiver has granted it. So a sender that abandons a chunk without a receiver gets its memory
// back, although MPI cannot cancel a send.
constexpr std::size_t kEagerBytes = 4096;
// Larger chunks are sent in parts, because the counts of MPI are ints.
constexpr std::size_t kPartBytes = std::size_t{64} << 20;

// MPI tags of the control communicator. All but the frames carry a Grant.
constexpr int kFrameTag = 0;
constexpr int kGrantTag = 1;     // the receiver waits for the next large chunk with this tag
constexpr int kWithdrawTag = 2;  // the receiver does not wait any more
constexpr int kReleaseTag = 3;   // the sender will not send it

// A receiver's permission to send one large chunk. The chunk has the MPI tag `token`, which no
// other chunk has, so that a late chunk for an abandoned receive cannot be mistaken for another
// one.
struct Grant {
  std::int32_t tag = 0;
  std::int32_t token = 0;
  std::uint64_t bytes = 0;
};

// A message that MPI is sending, with its memory.
struct Outgoing {
  int to = 0;
  std::vector<char> bytes;
  MPI_Request request = MPI_REQUEST_NULL;
};

// A chunk in flight. It is open once MPI has it; MPI uses its memory until all requests are done.
struct Way {
  Chunk chunk;
  int tag = 0;
  bool is_send = false;
  bool is_open = false;
  bool is_given_up = false;
  std::int32_t token = -1;  // of a large receive
  int parts_called_back = 0;
  std::vector<MPI_Request> requests;
  std::string error;
};

// The large chunks to one peer with one tag, and the grants of that peer that have not been used.
struct Line {
  struct Slot {
    Grant grant;
    bool is_withdrawn = false;
  };
  std::deque<std::shared_ptr<Way>> ways;
  std::deque<Slot> slots;
};

// A large chunk that this rank has granted and then abandoned. If its sender has sent it already,
// this rank receives and discards it, so that the sender gets its memory back.
struct Stray {
  int peer = 0;
  Grant grant;
  int parts = 0;
};
struct Dustbin {
  std::vector<char> bytes;
  MPI_Request request = MPI_REQUEST_NULL;
};

/// A copy of MPI_COMM_WORLD. Collective; throws CommError when the meeting is over.
MPI_Comm duplicate_world(Engine& engine, RollCall& roll_call);

/// The transport that world() returns. See Engine for the lock.
class MpiTransport final : public message::Transport {
 public:
  MpiTransport(Engine& engine, int rank, int size, RollCall& roll_call);
  ~MpiTransport() override;

  std::string name() const override { return "mpi"; }
  void send_frame(int to, const Frame& frame) override;
  std::optional<Arrival> next_frame(std::chrono::milliseconds patience) override;
  std::unique_ptr<Transfer> begin(int tag, std::span<const Chunk> sends,
                                  std::span<const Chunk> recvs) override;
  int tags() const override { return tags_; }
  bool run_native(const Operation& operation, Deadline deadline) override {
    return native_.carry_out(operation, deadline);
  }

  Engine& engine() { return engine_; }
  std::string name_self() const { return fmt::format("rank {} of {}", rank(), size()); }

  // The functions below are called with engine().lock() held.

  void open_receive(Way& way);
  void open_send(const std::shared_ptr<Way>& way);
  // Receives what has arrived and sends what has been granted.
  void advance();
  // Returns true once MPI does not use the memory of the chunk any more; sets its error if it
  // fails.
  bool is_done(Way& way);
  // Abandons a chunk: cancels its receives that have not begun.
  void give_up(Way& way);

  std::atomic<int> waiters = 0;  // threads in Transfer::wait()

 private:
  int count_tags();
  void compare_greetings(RollCall& roll_call);
  bool receive_control();
  void receive_frame(const MPI_Status& status);
  void receive_grant(const MPI_Status& status);
  void take_withdrawal(int peer, const Grant& grant);
  void take_release(const Grant& grant);
  void withdraw(Way& way);
  void collect_strays();
  void receive_part(Way& way, MPI_Comm comm, int tag, std::size_t first, std::size_t bytes);
  void match(int peer, int tag);
  void send_parts(Way& way, const Grant& grant);
  void post(int to, int tag, MPI_Comm comm, const void* data, std::size_t bytes);
  void reap();
  void stir(const Frame& frame);
  void lose(int peer, const std::string& why);
  void lose_all(const std::string& why);
  std::chrono::microseconds nap_of_listener() const;

  Engine& engine_;
  MPI_Comm control_;  // frames and grants
  MPI_Comm small_;    // small chunks, by their tag
  MPI_Comm large_;    // granted chunks, by their token
  Native native_;
  int tags_;
  int next_token_ = 0;
  std::deque<Outgoing> outgoing_;  // the oldest first; a deque, so that elements do not move
  std::map<std::pair<int, int>, Line> lines_;  // by peer and tag
  std::list<Stray> strays_;
  std::list<Dustbin> dustbins_;
  std::set<std::int32_t> released_;  // tokens released before this rank has withdrawn them
  std::deque<Arrival> arrivals_;
  std::condition_variable arrived_;
  std::vector<std::string> lost_;  // by rank: why
  Clock::time_point stirred_;      // when the last frame was sent or received
};

}  // namespace trireme::mpi
