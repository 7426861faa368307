#include "trireme/comm/mpi/roll_call.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace trireme::mpi {

namespace {

constexpr std::chrono::milliseconds kBetweenLooks{200};

// An abstract address: its first byte is 0, and no file stands for it.
struct Name {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  socklen_t size = 0;

  Name(const std::string& job, int rank) {
    const std::string text = fmt::format("trireme-mpi-{}-{}-{}", ::getuid(), job, rank);
    const std::size_t bytes = std::min(text.size(), sizeof address.sun_path - 1);
    // The end of a long text tells ranks apart.
    std::memcpy(address.sun_path + 1, text.data() + text.size() - bytes, bytes);
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + bytes);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

FileDescriptor new_socket() {
  return FileDescriptor(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

}  // namespace

RollCall::RollCall(const Meeting& meeting)
    : meeting_(meeting),
      deadline_(Clock::now() + meeting.timeout),
      has_come_(static_cast<std::size_t>(std::max(1, meeting.size))) {
  if (!knows_names()) return;
  own_ = new_socket();
  const Name name(meeting.job, meeting.rank);
  // If it cannot be bound, this rank is missing in the errors of others.
  ::bind(own_.fd(), name.get(), name.size);
  has_come_[static_cast<std::size_t>(meeting.rank)] = true;
}

void RollCall::look() {
  if (!knows_names() || Clock::now() < next_look_) return;
  next_look_ = Clock::now() + kBetweenLooks;
  for (int rank = 0; rank < meeting_.size; ++rank) {
    if (has_come_[static_cast<std::size_t>(rank)]) continue;
    const FileDescriptor socket = new_socket();
    const Name name(meeting_.job, rank);
    has_come_[static_cast<std::size_t>(rank)] = ::connect(socket.fd(), name.get(), name.size) == 0;
  }
}

std::string RollCall::missing() const {
  if (!knows_names()) return "a rank has not called connect()";
  std::vector<int> here, missing;
  for (int rank = 0; rank < meeting_.size; ++rank) {
    (has_come_[static_cast<std::size_t>(rank)] ? here : missing).push_back(rank);
  }
  if (missing.empty()) return "all ranks have called connect(), and MPI does not go on";
  if (meeting_.ranks_of_host == meeting_.size) {
    return fmt::format("{} {} of {} {} not called connect()",
                       missing.size() == 1 ? "rank" : "ranks", fmt::join(missing, ", "),
                       meeting_.size, missing.size() == 1 ? "has" : "have");
  }
  return fmt::format("of {} ranks on several hosts, on this host {} {} called connect(){}",
                     meeting_.size, fmt::join(here, ", "), here.size() == 1 ? "has" : "have",
                     static_cast<int>(here.size()) == meeting_.ranks_of_host
                         ? ", which are all of this host"
                         : "");
}

std::string RollCall::who_is_missing(const std::string& call) {
  next_look_ = {};
  look();
  return fmt::format(
      "connect: {} by {} was not done within {:.1f} s, because it waits for all ranks: {}; see "
      "whether they were started and what they say",
      call, library(), static_cast<double>(meeting_.timeout.count()) / 1000, missing());
}

}  // namespace trireme::mpi
