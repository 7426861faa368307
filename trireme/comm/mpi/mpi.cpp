#include "trireme/comm/mpi/mpi.h"

#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/mpi/engine.h"
#include "trireme/comm/mpi/native.h"

namespace trireme::mpi {

namespace {

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

// abort() must be heard within 100 ms; the destructor may take its time.
constexpr std::chrono::milliseconds kDrainAtOnce{50};
constexpr std::chrono::seconds kDrain{2};

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
  bool carry_out_natively(const Operation& operation, Deadline deadline) override {
    if (!native_.has(operation)) return false;
    native_.carry_out(operation, deadline);
    return true;
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

// While a transfer is waited for, its waiter looks for frames too, and more often.
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
  MpiTransfer(MpiTransport& transport, int tag, std::span<const Piece> sends,
              std::span<const Piece> recvs);
  ~MpiTransfer() override;
  void wait(Deadline deadline) override;
  void abort() override { is_aborted_ = true; }

 private:
  Way* first_under_way();
  // True once MPI uses no memory of this transfer.
  bool drain(Clock::duration bound);
  CommError why_not_done();

  MpiTransport& transport_;
  std::vector<std::shared_ptr<Way>> ways_;
  std::size_t bytes_ = 0;
  bool is_over_ = false;
  std::atomic<bool> is_aborted_ = false;
};

MpiTransfer::MpiTransfer(MpiTransport& transport, int tag, std::span<const Piece> sends,
                         std::span<const Piece> recvs)
    : transport_(transport) {
  const auto locked = transport_.engine().lock();
  transport_.advance();  // what is withdrawn must not be sent
  const auto add = [&](const Piece& piece, bool is_send) {
    bytes_ += piece.bytes;
    ways_.push_back(std::make_shared<Way>(Way{.piece = piece, .tag = tag, .is_send = is_send}));
  };
  for (const Piece& piece : recvs) {
    add(piece, false);
    transport_.open_receive(*ways_.back());
  }
  for (const Piece& piece : sends) {
    add(piece, true);
    transport_.open_send(ways_.back());
  }
}

MpiTransfer::~MpiTransfer() {
  if (is_over_ || drain(kDrain)) return;
  Engine& engine = transport_.engine();
  const auto locked = engine.lock();
  const Way* const way = first_under_way();
  if (way == nullptr) return;
  engine.forsake(fmt::format(
      "mpi: a transfer with rank {} was given up half way and cannot be called back; start the "
      "program again ({})",
      way->piece.peer, transport_.name_self()));
}

void MpiTransfer::wait(Deadline deadline) {
  if (is_over_) return;
  const Waiting waiting(transport_);
  const Patience patience(bytes_);
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
    patience.pause();
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
  transport_.engine().note_failure();
  const int peer = way->piece.peer;
  if (!way->error.empty()) {
    return CommError(fmt::format("mpi: {} ({})", way->error, transport_.name_self()), peer);
  }
  return CommError(fmt::format("mpi: rank {} did not {} {} bytes with tag {} in time ({})", peer,
                               way->is_send ? "take" : "send", way->piece.bytes, way->tag,
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
  const Patience patience;
  for (;;) {
    {
      const auto locked = transport_.engine().lock();
      if (!transport_.engine().forsaken().empty()) return true;
      for (const auto& way : ways_) {
        if (!transport_.is_done(*way)) transport_.give_up(*way);
      }
      transport_.advance();
      if (first_under_way() == nullptr) return true;
      transport_.engine().note_failure();
    }
    if (Clock::now() > until) return false;
    patience.pause();
  }
}

MpiTransport::MpiTransport(Engine& engine, int rank, int size)
    : Transport(rank, size),
      engine_(engine),
      control_(duplicate()),
      small_(duplicate()),
      large_(duplicate()),
      native_(engine, rank, size),
      tags_(count_tags()),
      lost_(size),
      stirred_(Clock::now()) {
  compare_greetings();
}

// The communicators are not freed: a message that is still on its way must not come out in a later
// one to which MPI gives the same number.
MpiTransport::~MpiTransport() {
  const auto until = Clock::now() + kDrain;
  const Patience patience;
  for (;;) {
    {
      const auto locked = engine_.lock();
      if (!engine_.forsaken().empty()) break;
      advance();
      if (outgoing_.empty() && dustbins_.empty()) return;
    }
    if (Clock::now() > until) break;
    patience.pause();
  }
  const auto locked = engine_.lock();
  engine_.note_failure();
  engine_.keep(std::make_shared<std::deque<Outgoing>>(std::move(outgoing_)));
  engine_.keep(std::make_shared<std::list<Dustbin>>(std::move(dustbins_)));
}

MPI_Comm MpiTransport::duplicate() {
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
  {
    const auto locked = engine_.lock();
    engine_.require_usable();
    check(MPI_Comm_idup(MPI_COMM_WORLD, &comm, &request), "MPI_Comm_idup");
  }
  engine_.await([&] {
    int done = 0;
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Comm_idup");
    return done != 0;
  });
  const auto locked = engine_.lock();
  check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return comm;
}

int MpiTransport::count_tags() {
  const auto locked = engine_.lock();
  int* highest = nullptr;
  int has_highest = 0;
  check(MPI_Comm_get_attr(small_, MPI_TAG_UB, &highest, &has_highest), "MPI_Comm_get_attr");
  return has_highest ? *highest : 32767;  // what MPI promises
}

void MpiTransport::compare_greetings() {
  std::array<char, 128> own{};
  message::greeting(size()).copy(own.data(), own.size() - 1);
  std::vector<std::array<char, 128>> all(size());
  MPI_Request request = MPI_REQUEST_NULL;
  {
    const auto locked = engine_.lock();
    check(MPI_Iallgather(own.data(), own.size(), MPI_CHAR, all.data(), own.size(), MPI_CHAR,
                         control_, &request),
          "MPI_Iallgather");
  }
  engine_.await([&] {
    int done = 0;
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Iallgather");
    return done != 0;
  });
  for (int peer = 0; peer < size(); ++peer) {
    message::require_same_greeting(own.data(), peer, all[peer].data());
  }
}

void MpiTransport::send_frame(int to, const Frame& frame) {
  const auto locked = engine_.lock();
  if (!engine_.forsaken().empty() || !lost_[to].empty()) return;
  post(to, kFrameTag, control_, &frame, frame.bytes());
  stir(frame);
}

std::optional<Arrival> MpiTransport::next_frame(std::chrono::milliseconds patience) {
  const auto until = Clock::now() + patience;
  auto locked = engine_.lock();
  for (;;) {
    if (!engine_.forsaken().empty()) lose_all(engine_.forsaken());
    advance();
    if (!arrivals_.empty()) {
      Arrival arrival = std::move(arrivals_.front());
      arrivals_.pop_front();
      return arrival;
    }
    const auto now = Clock::now();
    if (now >= until) return std::nullopt;
    if (const auto nap = nap_of_listener(); nap.count() > 0) {
      arrived_.wait_until(locked, std::min<Clock::time_point>(now + nap, until));
    } else {
      locked.unlock();
      std::this_thread::yield();
      locked.lock();
    }
  }
}

// An answer to what has just been said comes soon; after a silence the next word can wait a little.
std::chrono::microseconds MpiTransport::nap_of_listener() const {
  using std::chrono::microseconds;
  constexpr microseconds kLongest{500};
  if (waiters > 0) return kLongest;
  const auto silence = Clock::now() - stirred_;
  if (silence < microseconds(50)) return microseconds(0);
  return std::clamp(std::chrono::duration_cast<microseconds>(silence / 16), microseconds(20),
                    kLongest);
}

void MpiTransport::stir(const Frame& frame) {
  // Some rank does not come or is lost: it may not come to the end of the program either.
  if (frame.header.kind == message::FrameKind::kVerdict && !frame.header.is_usage_error) {
    engine_.note_failure();
  }
  if (frame.header.kind != message::FrameKind::kAlive) stirred_ = Clock::now();
  arrived_.notify_all();
}

std::unique_ptr<Transfer> MpiTransport::begin(int tag, std::span<const Piece> sends,
                                              std::span<const Piece> recvs) {
  return std::make_unique<MpiTransfer>(*this, tag, sends, recvs);
}

void MpiTransport::open_receive(Way& way) {
  const auto& [peer, data, bytes] = way.piece;
  if (!engine_.forsaken().empty() || !lost_[peer].empty()) return;
  way.is_open = true;
  if (bytes <= kEagerBytes) return receive_part(way, small_, way.tag, 0, bytes);
  const Grant grant{way.tag, next_token_, bytes};
  next_token_ = (next_token_ + 1) % tags_;
  way.token = grant.token;
  for (std::size_t first = 0; first < bytes; first += kPartBytes) {
    receive_part(way, large_, grant.token, first, std::min(kPartBytes, bytes - first));
  }
  post(peer, kGrantTag, control_, &grant, sizeof(grant));
}

void MpiTransport::receive_part(Way& way, MPI_Comm comm, int tag, std::size_t first,
                                std::size_t bytes) {
  const int peer = way.piece.peer;
  const int code =
      MPI_Irecv(static_cast<char*>(way.piece.data) + first, static_cast<int>(bytes), MPI_BYTE, peer,
                tag, comm, &way.requests.emplace_back(MPI_REQUEST_NULL));
  if (code == MPI_SUCCESS) return;
  way.is_open = false;
  lose(peer, text_of(code, "MPI_Irecv"));
}

void MpiTransport::open_send(const std::shared_ptr<Way>& way) {
  const auto& [peer, data, bytes] = way->piece;
  if (!engine_.forsaken().empty() || !lost_[peer].empty()) return;
  if (bytes <= kEagerBytes) {
    way->is_open = true;
    post(peer, way->tag, small_, data, bytes);
    return;
  }
  lines_[{peer, way->tag}].ways.push_back(way);
  match(peer, way->tag);
}

void MpiTransport::match(int peer, int tag) {
  const auto found = lines_.find({peer, tag});
  Line& line = found->second;
  while (!line.ways.empty() && !line.slots.empty()) {
    const std::shared_ptr<Way> way = line.ways.front();
    const auto [grant, is_withdrawn] = line.slots.front();
    line.ways.pop_front();
    line.slots.pop_front();
    if (is_withdrawn) {
      way->error =
          fmt::format("rank {} no longer waits for {} bytes with tag {}", peer, grant.bytes, tag);
    } else if (way->is_given_up) {
      // Used up all the same, so that the next piece does not take this one's place.
      post(peer, kReleaseTag, control_, &grant, sizeof(grant));
    } else if (way->piece.bytes != grant.bytes) {
      way->error = fmt::format("rank {} waits for {} bytes with tag {}, this rank sends it {}",
                               peer, grant.bytes, tag, way->piece.bytes);
      post(peer, kReleaseTag, control_, &grant, sizeof(grant));
    } else {
      send_parts(*way, grant);
    }
  }
  if (line.ways.empty() && line.slots.empty()) lines_.erase(found);
}

void MpiTransport::send_parts(Way& way, const Grant& grant) {
  const auto& [peer, data, bytes] = way.piece;
  way.is_open = true;
  for (std::size_t first = 0; first < bytes; first += kPartBytes) {
    const int code = MPI_Isend(
        static_cast<char*>(data) + first, static_cast<int>(std::min(kPartBytes, bytes - first)),
        MPI_BYTE, peer, grant.token, large_, &way.requests.emplace_back(MPI_REQUEST_NULL));
    if (code == MPI_SUCCESS) continue;
    way.is_open = false;
    return lose(peer, text_of(code, "MPI_Isend"));
  }
}

void MpiTransport::give_up(Way& way) {
  if (way.is_given_up) return;
  way.is_given_up = true;
  if (way.is_send) return;
  for (MPI_Request& request : way.requests) {
    if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
  }
}

bool MpiTransport::is_done(Way& way) {
  if (!engine_.forsaken().empty()) return false;
  const int peer = way.piece.peer;
  bool is_quiet = true;
  bool is_torn = false;
  for (MPI_Request& request : way.requests) {
    if (request == MPI_REQUEST_NULL) continue;
    int done = 0;
    MPI_Status status;
    const int code = MPI_Test(&request, &done, &status);
    if (code != MPI_SUCCESS) {
      lose(peer, text_of(code, "MPI_Test"));
      is_torn = true;
      continue;
    }
    if (!done) {
      is_quiet = false;
      break;
    }
    int called_back = 0;
    if (way.is_given_up) MPI_Test_cancelled(&status, &called_back);
    way.parts_called_back += called_back;
  }
  if (way.is_given_up) {
    if (is_quiet) withdraw(way);
    return is_quiet;
  }
  const bool is_under_way = is_torn || !is_quiet || !way.is_open;
  if (is_under_way && way.error.empty() && !lost_[peer].empty()) {
    way.error = fmt::format("rank {} is lost: {}", peer, lost_[peer]);
  }
  return !is_under_way && way.error.empty();
}

void MpiTransport::withdraw(Way& way) {
  if (way.token < 0 || way.parts_called_back == 0) return;
  const int parts = std::exchange(way.parts_called_back, 0);
  if (released_.erase(way.token) > 0) return;
  const Grant grant{way.tag, way.token, way.piece.bytes};
  strays_.push_back({way.piece.peer, grant, parts});
  post(way.piece.peer, kWithdrawTag, control_, &grant, sizeof(grant));
}

void MpiTransport::take_withdrawal(int peer, const Grant& grant) {
  const auto line = lines_.find({peer, grant.tag});
  if (line == lines_.end()) return;
  for (Line::Slot& slot : line->second.slots) {
    if (slot.grant.token != grant.token) continue;
    slot.is_withdrawn = true;
    post(peer, kReleaseTag, control_, &grant, sizeof(grant));
  }
}

void MpiTransport::take_release(const Grant& grant) {
  const auto is_it = [&](const Stray& stray) { return stray.grant.token == grant.token; };
  if (std::erase_if(strays_, is_it) == 0) released_.insert(grant.token);
}

void MpiTransport::collect_strays() {
  for (auto stray = strays_.begin(); stray != strays_.end();) {
    int is_there = 0;
    MPI_Status status;
    const int code = MPI_Iprobe(stray->peer, stray->grant.token, large_, &is_there, &status);
    if (code == MPI_SUCCESS && is_there) {
      int bytes = 0;
      MPI_Get_count(&status, MPI_BYTE, &bytes);
      Dustbin& bin = dustbins_.emplace_back(Dustbin{std::vector<char>(bytes)});
      MPI_Irecv(bin.bytes.data(), bytes, MPI_BYTE, stray->peer, stray->grant.token, large_,
                &bin.request);
      --stray->parts;
    }
    const bool is_over = stray->parts == 0 || code != MPI_SUCCESS || !lost_[stray->peer].empty();
    stray = is_over ? strays_.erase(stray) : std::next(stray);
  }
  std::erase_if(dustbins_, [](Dustbin& bin) {
    int done = 0;
    return MPI_Test(&bin.request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done;
  });
}

void MpiTransport::advance() {
  if (!engine_.forsaken().empty()) return;
  // Bounded: whoever looks for a transfer must not be kept by peers that talk without end.
  for (int i = 0; i < 64; ++i) {
    if (!receive_control()) break;
  }
  if (!strays_.empty() || !dustbins_.empty()) collect_strays();
  reap();
}

bool MpiTransport::receive_control() {
  int is_there = 0;
  MPI_Status status;
  const int code = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, control_, &is_there, &status);
  if (code != MPI_SUCCESS) {
    lose_all(text_of(code, "MPI_Iprobe"));
    return false;
  }
  if (!is_there) return false;
  if (status.MPI_TAG == kFrameTag) {
    receive_frame(status);
  } else {
    receive_grant(status);
  }
  return true;
}

void MpiTransport::receive_frame(const MPI_Status& status) {
  Arrival arrival{.from = status.MPI_SOURCE};
  const int code = MPI_Recv(&arrival.frame, sizeof(Frame), MPI_BYTE, status.MPI_SOURCE, kFrameTag,
                            control_, MPI_STATUS_IGNORE);
  if (code != MPI_SUCCESS) return lose(status.MPI_SOURCE, text_of(code, "MPI_Recv"));
  stir(arrival.frame);
  arrivals_.push_back(std::move(arrival));
}

void MpiTransport::receive_grant(const MPI_Status& status) {
  const int peer = status.MPI_SOURCE;
  Grant grant;
  const int code =
      MPI_Recv(&grant, sizeof(grant), MPI_BYTE, peer, status.MPI_TAG, control_, MPI_STATUS_IGNORE);
  if (code != MPI_SUCCESS) return lose(peer, text_of(code, "MPI_Recv"));
  switch (status.MPI_TAG) {
    case kGrantTag:
      lines_[{peer, grant.tag}].slots.push_back({grant});
      return match(peer, grant.tag);
    case kWithdrawTag:
      return take_withdrawal(peer, grant);
    case kReleaseTag:
      return take_release(grant);
  }
}

void MpiTransport::post(int to, int tag, MPI_Comm comm, const void* data, std::size_t bytes) {
  const char* const first = static_cast<const char*>(data);
  Outgoing& message = outgoing_.emplace_back(Outgoing{to, {first, first + bytes}});
  const int code = MPI_Isend(message.bytes.data(), static_cast<int>(bytes), MPI_BYTE, to, tag, comm,
                             &message.request);
  if (code != MPI_SUCCESS) lose(to, text_of(code, "MPI_Isend"));
}

void MpiTransport::reap() {
  while (!outgoing_.empty()) {
    Outgoing& message = outgoing_.front();
    int done = 0;
    const int code = MPI_Test(&message.request, &done, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) {
      lose(message.to, text_of(code, "MPI_Test"));
    } else if (!done) {
      return;
    }
    outgoing_.pop_front();
  }
}

void MpiTransport::lose(int peer, const std::string& why) {
  if (!lost_[peer].empty()) return;
  lost_[peer] = why;
  engine_.note_failure();
  arrivals_.push_back({.from = peer, .lost = why});
  arrived_.notify_all();
}

void MpiTransport::lose_all(const std::string& why) {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) lose(peer, why);
  }
}

}  // namespace

std::unique_ptr<message::Transport> world() {
  Engine& engine = Engine::running();
  int rank = 0;
  int size = 0;
  {
    const auto locked = engine.lock();
    engine.require_usable();
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
  }
  return std::make_unique<MpiTransport>(engine, rank, size);
}

}  // namespace trireme::mpi
