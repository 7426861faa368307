#include "trireme/comm/mpi/mpi.h"

#include <algorithm>
#include <array>
#include <thread>

#include "trireme/comm/mpi/transport-inl.h"

namespace trireme::mpi {

namespace {

// How long the destructor of a transport waits until its messages have been sent.
constexpr std::chrono::seconds kSendTimeout{2};

// MPICH prints a warning for each message that has not been received, so the last ones are received
// here.
void discard_unread(MPI_Comm comm) {
  std::array<char, std::max(kEagerBytes, sizeof(Frame))> bytes;
  for (;;) {
    int is_there = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &is_there, &status) != MPI_SUCCESS) return;
    if (!is_there) return;
    MPI_Recv(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, status.MPI_SOURCE,
             status.MPI_TAG, comm, MPI_STATUS_IGNORE);
  }
}

bool has_completed(MPI_Request& request, const char* call) {
  int done = 0;
  check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), call);
  return done != 0;
}

}  // namespace

MpiTransport::MpiTransport(Engine& engine, int rank, int size, RollCall& roll_call)
    : Transport(rank, size),
      engine_(engine),
      control_(duplicate_world(engine, roll_call)),
      small_(duplicate_world(engine, roll_call)),
      large_(duplicate_world(engine, roll_call)),
      native_(engine, rank, size, roll_call),
      tags_(count_tags()),
      lost_(size),
      stirred_(Clock::now()) {
  {
    const auto locked = engine_.lock();
    engine_.at_end([control = control_, small = small_] {
      discard_unread(control);
      discard_unread(small);
    });
  }
  compare_greetings(roll_call);
}

// The communicators are not freed: a message in flight must not arrive in a later communicator to
// which MPI gives the same number.
MpiTransport::~MpiTransport() {
  const auto until = Clock::now() + kSendTimeout;
  const Backoff backoff;
  for (;;) {
    {
      const auto locked = engine_.lock();
      if (!engine_.why_abandoned().empty()) break;
      advance();
      if (outgoing_.empty() && dustbins_.empty()) return;
    }
    if (Clock::now() > until) break;
    backoff.pause();
  }
  const auto locked = engine_.lock();
  engine_.mark_failed();
  engine_.keep(std::make_shared<std::deque<Outgoing>>(std::move(outgoing_)));
  engine_.keep(std::make_shared<std::list<Dustbin>>(std::move(dustbins_)));
}

MPI_Comm duplicate_world(Engine& engine, RollCall& roll_call) {
  // Kept if MPI may still write to it.
  struct Duplicate {
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  const auto made = std::make_shared<Duplicate>();
  constexpr const char* kCall = "MPI_Comm_idup";
  {
    const auto locked = engine.lock();
    engine.require_usable();
    check(MPI_Comm_idup(MPI_COMM_WORLD, &made->comm, &made->request), kCall);
  }
  engine.await([&] { return has_completed(made->request, kCall); }, kCall, roll_call, made);
  const auto locked = engine.lock();
  check(MPI_Comm_set_errhandler(made->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return made->comm;
}

int MpiTransport::count_tags() {
  const auto locked = engine_.lock();
  int* highest = nullptr;
  int has_highest = 0;
  check(MPI_Comm_get_attr(small_, MPI_TAG_UB, &highest, &has_highest), "MPI_Comm_get_attr");
  return has_highest ? *highest : 32767;  // the least that MPI guarantees
}

void MpiTransport::compare_greetings(RollCall& roll_call) {
  using Text = std::array<char, 128>;
  struct Greetings {
    Text own{};
    std::vector<Text> all;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  const auto greetings = std::make_shared<Greetings>();
  auto& [own, all, request] = *greetings;
  message::greeting(size()).copy(own.data(), own.size() - 1);
  all.resize(static_cast<std::size_t>(size()));
  constexpr const char* kCall = "MPI_Iallgather";
  {
    const auto locked = engine_.lock();
    check(MPI_Iallgather(own.data(), own.size(), MPI_CHAR, all.data(), own.size(), MPI_CHAR,
                         control_, &request),
          kCall);
  }
  engine_.await([&] { return has_completed(greetings->request, kCall); }, kCall, roll_call,
                greetings);
  for (int peer = 0; peer < size(); ++peer) {
    message::require_same_greeting(own.data(), peer, all[peer].data());
  }
}

void MpiTransport::send_frame(int to, const Frame& frame) {
  const auto locked = engine_.lock();
  if (!engine_.why_abandoned().empty() || !lost_[to].empty()) return;
  post(to, kFrameTag, control_, &frame, frame.bytes());
  stir(frame);
}

std::optional<Arrival> MpiTransport::next_frame(std::chrono::milliseconds patience) {
  const auto until = Clock::now() + patience;
  auto locked = engine_.lock();
  for (;;) {
    if (!engine_.why_abandoned().empty()) lose_all(engine_.why_abandoned());
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

// The answer to a recent frame arrives soon; after a silence the next frame may be received a
// little later.
std::chrono::microseconds MpiTransport::nap_of_listener() const {
  using std::chrono::microseconds;
  const auto silence = Clock::now() - stirred_;
  const microseconds longest(silence < std::chrono::seconds(1) ? 500 : 1000);
  if (waiters > 0) return longest;
  if (silence < microseconds(50)) return microseconds(0);
  return std::clamp(std::chrono::duration_cast<microseconds>(silence / 16), microseconds(20),
                    longest);
}

void MpiTransport::stir(const Frame& frame) {
  // A rank is late or lost, so it may never reach the end of the program.
  if (frame.header.kind == message::FrameKind::kAgreedError) {
    engine_.mark_failed();
  }
  if (frame.header.kind != message::FrameKind::kHeartbeat) stirred_ = Clock::now();
  arrived_.notify_all();
}

void MpiTransport::advance() {
  if (!engine_.why_abandoned().empty()) return;
  // The number of frames is bounded, so that a peer that sends frames all the time cannot delay
  // transfers.
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
  engine_.mark_failed();
  arrivals_.push_back({.from = peer, .lost = why});
  arrived_.notify_all();
}

void MpiTransport::lose_all(const std::string& why) {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) lose(peer, why);
  }
}

std::unique_ptr<message::Transport> world(const Meeting& meeting) {
  RollCall roll_call(meeting);
  Engine& engine = Engine::running(roll_call);
  int rank = 0;
  int size = 0;
  {
    const auto locked = engine.lock();
    engine.require_usable();
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
  }
  return std::make_unique<MpiTransport>(engine, rank, size, roll_call);
}

}  // namespace trireme::mpi
