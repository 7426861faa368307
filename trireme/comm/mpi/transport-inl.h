#pragma once

// Part of the sources that see MPI's own header; for no others.

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

namespace trireme::mpi {

using Clock = std::chrono::steady_clock;
using message::Arrival;
using message::Deadline;
using message::Frame;
using message::Piece;
using message::Transfer;

// Pieces of at most this many bytes leave at once, as a copy. A larger one waits until its receiver
// has granted it, so that whoever gives up a piece that nobody takes has its memory back: MPI has
// no way to call a send back.
constexpr std::size_t kEagerBytes = 4096;
// MPI counts in int.
constexpr std::size_t kPartBytes = std::size_t{64} << 20;

// MPI tags of the control communicator. All but the frames carry a Grant.
constexpr int kFrameTag = 0;
constexpr int kGrantTag = 1;     // the receiver waits for the next large piece with this tag
constexpr int kWithdrawTag = 2;  // the receiver does not any more
constexpr int kReleaseTag = 3;   // the sender has not sent it, and will not

// A receiver's leave to send one large piece. The piece travels under the MPI tag `token`, which is
// its own: what comes late for one that was given up cannot be taken for another.
struct Grant {
  std::int32_t tag = 0;
  std::int32_t token = 0;
  std::uint64_t bytes = 0;
};

// A message that MPI sends from here.
struct Outgoing {
  int to = 0;
  std::vector<char> bytes;
  MPI_Request request = MPI_REQUEST_NULL;
};

// A piece on its way. It is open once MPI has it; MPI uses its memory until all requests are done.
struct Way {
  Piece piece;
  int tag = 0;
  bool is_send = false;
  bool is_open = false;
  bool is_given_up = false;
  std::int32_t token = -1;  // of a large receive
  int parts_called_back = 0;
  std::vector<MPI_Request> requests;
  std::string error;
};

// The large pieces to one peer with one tag, and the grants for those that are yet to be sent.
struct Line {
  struct Slot {
    Grant grant;
    bool is_withdrawn = false;
  };
  std::deque<std::shared_ptr<Way>> ways;
  std::deque<Slot> slots;
};

// A large piece that this rank has granted and then given up. Its sender may have sent it by then:
// it is taken out of MPI's hands and thrown away, so that the sender gets its memory back.
struct Stray {
  int peer = 0;
  Grant grant;
  int parts = 0;
};
struct Dustbin {
  std::vector<char> bytes;
  MPI_Request request = MPI_REQUEST_NULL;
};

/// What world() makes. See Engine for the lock.
class MpiTransport final : public message::Transport {
 public:
  MpiTransport(Engine& engine, int rank, int size);
  ~MpiTransport() override;

  std::string name() const override { return "mpi"; }
  void send_frame(int to, const Frame& frame) override;
  std::optional<Arrival> next_frame(std::chrono::milliseconds patience) override;
  std::unique_ptr<Transfer> begin(int tag, std::span<const Piece> sends,
                                  std::span<const Piece> recvs) override;
  int tags() const override { return tags_; }
  bool run_native(const Operation& operation, Deadline deadline) override {
    return native_.carry_out(operation, deadline);
  }

  Engine& engine() { return engine_; }
  std::string name_self() const { return fmt::format("rank {} of {}", rank(), size()); }

  // With engine().lock() held:

  void open_receive(Way& way);
  void open_send(const std::shared_ptr<Way>& way);
  // Takes what has come and sends what has been asked for.
  void advance();
  // Whether MPI has done with the memory of the way; sets its error if it never will.
  bool is_done(Way& way);
  // MPI lets go of the memory of a receive that has not begun to come.
  void give_up(Way& way);

  std::atomic<int> waiters = 0;  // threads in Transfer::wait()

 private:
  MPI_Comm duplicate();
  int count_tags();
  void compare_greetings();
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
  MPI_Comm small_;    // pieces that leave at once, by their tag
  MPI_Comm large_;    // granted pieces, by their token
  Native native_;
  int tags_;
  int next_token_ = 0;
  std::deque<Outgoing> outgoing_;              // the oldest first; elements stay where they are
  std::map<std::pair<int, int>, Line> lines_;  // by peer and tag
  std::list<Stray> strays_;
  std::list<Dustbin> dustbins_;
  std::set<std::int32_t> released_;  // tokens of receives that do not know it yet
  std::deque<Arrival> arrivals_;
  std::condition_variable arrived_;
  std::vector<std::string> lost_;  // by rank: why
  Clock::time_point stirred_;      // when a frame went or came last
};

}  // namespace trireme::mpi
