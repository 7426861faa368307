#include "trireme/world/c10d/join.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/comm/message/transport.h"
#include "trireme/world/c10d/meeting.h"

namespace trireme::c10d {

namespace {

using Clock = std::chrono::steady_clock;

// The time after the timeout in which a rank writes the reason, and the others read it.
constexpr std::chrono::milliseconds kGrace{8000};

constexpr std::chrono::milliseconds kBetweenNotices{50};

// From the thread that waits to the one that tells the user.
class Notices {
 public:
  void add(const std::string& text) {
    const std::lock_guard lock(mutex_);
    texts_.push_back(text);
  }
  std::vector<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(texts_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> texts_;
};

enum class Stage { kReaching, kMeeting, kConnecting };

std::string what_failed(const Rendezvous& rendezvous, Stage stage, const std::string& reason) {
  const std::string who =
      fmt::format("connect: rank {} of {}", rendezvous.rank, rendezvous.world_size);
  if (stage != Stage::kConnecting) {
    return fmt::format(
        "{} found no rendezvous at {}: {}; another program may have this port, or rank 0 has ended",
        who, endpoint_of(rendezvous), reason);
  }
  return fmt::format(
      "{} met the others at {}, but not all could be connected: {}; a rank may have ended, or "
      "listen on an address that others do not reach",
      who, endpoint_of(rendezvous), reason);
}

Joined meet_and_connect(const Rendezvous& rendezvous, std::atomic<Stage>& stage) {
  try {
    Meeting meeting(rendezvous, message::greeting(rendezvous.world_size));
    stage = Stage::kMeeting;
    meeting.gather();
    stage = Stage::kConnecting;
    Joined joined;
    joined.frames =
        GlooGroup::connect(with_prefix("frames", meeting.store()), rendezvous, meeting.address());
    joined.chunks =
        GlooGroup::connect(with_prefix("chunks", meeting.store()), rendezvous, meeting.address());
    meeting.conclude();
    return joined;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw CommError(what_failed(rendezvous, stage, short_reason(error)));
  }
}

}  // namespace

Joined join(const Rendezvous& rendezvous) {
  check(rendezvous);
  const auto begin = Clock::now();
  // This runs in a thread of its own, because neither a client of the store nor Gloo has a timeout:
  // a program that is no store may never answer, and Gloo waits for ranks that have ended. Such a
  // thread remains until the process ends.
  struct Attempt {
    Rendezvous rendezvous;
    std::atomic<Stage> stage{Stage::kReaching};
    Notices notices;
    std::promise<Joined> result;
  };
  const auto attempt = std::make_shared<Attempt>();
  attempt->rendezvous = rendezvous;
  if (rendezvous.on_notice) {
    attempt->rendezvous.on_notice = [&notices = attempt->notices](const std::string& text) {
      notices.add(text);
    };
  }
  std::future<Joined> result = attempt->result.get_future();
  start_thread("connect", [attempt] {
    leave_signals_to_others();
    try {
      attempt->result.set_value(meet_and_connect(attempt->rendezvous, attempt->stage));
    } catch (...) {
      attempt->result.set_exception(std::current_exception());
    }
  }).detach();
  auto next_notice = begin + rendezvous.first_notice;
  auto pause = rendezvous.first_notice;
  while (result.wait_for(kBetweenNotices) != std::future_status::ready) {
    const auto now = Clock::now();
    if (now >= begin + rendezvous.timeout + kGrace) {
      throw CommError(what_failed(rendezvous, attempt->stage, "no answer in time"));
    }
    if (!rendezvous.on_notice) continue;
    for (const std::string& text : attempt->notices.take()) rendezvous.on_notice(text);
    if (attempt->stage != Stage::kReaching || now < next_notice) continue;
    pause *= 2;
    next_notice = now + pause;
    rendezvous.on_notice(fmt::format("waiting for rank 0 at {}", endpoint_of(rendezvous)));
  }
  return result.get();
}

}  // namespace trireme::c10d
