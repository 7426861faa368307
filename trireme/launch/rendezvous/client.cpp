#include "trireme/launch/rendezvous/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/launch/tcp.h"

namespace trireme::rendezvous {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kBetweenTries{50};
constexpr milliseconds kOneTry{10000};
constexpr const char* kOtherJob =
    "it belongs to another job (TRIREME_JOB_ID, or the numbers of Slurm's job and step, must be "
    "the same on all ranks)";

// The functions below return what went wrong, or an empty text.

std::string send_all(int fd, std::string_view bytes, Clock::time_point deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
      return std::strerror(errno);
    } else if (!wait_for(fd, POLLOUT, deadline)) {
      return "no answer in time";
    }
  }
  return {};
}

// Appends at least one byte, and at most `most`, to `bytes`.
std::string receive_some(int fd, std::size_t most, std::string& bytes, Clock::time_point deadline) {
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t received = ::recv(fd, buffer.data(), std::min(most, buffer.size()), MSG_DONTWAIT);
    if (received > 0) {
      bytes.append(buffer.data(), static_cast<std::size_t>(received));
      return {};
    }
    if (received == 0) return "the connection was closed";
    if (errno != EAGAIN && errno != EINTR) return std::strerror(errno);
    if (!wait_for(fd, POLLIN, deadline)) return "no answer in time";
  }
}

std::string receive_exactly(int fd, std::size_t count, std::string& bytes,
                            Clock::time_point deadline) {
  bytes.clear();
  while (bytes.size() < count) {
    std::string trouble = receive_some(fd, count - bytes.size(), bytes, deadline);
    if (!trouble.empty()) return trouble;
  }
  return {};
}

std::string endpoint_of(const Client::Options& options) {
  const bool is_v6 = options.address.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_v6 ? "[" : "", options.address, is_v6 ? "]" : "",
                     options.port);
}

[[noreturn]] void refuse_secret(const Client::Options& options) {
  throw UsageError(fmt::format(
      "connect: {} {} the job secret of rank 0 at {}; give all ranks the same file by --job-secret "
      "or TRIREME_JOB_SECRET_FILE",
      options.who, options.identity.secret.is_given() ? "has another secret than" : "does not have",
      endpoint_of(options)));
}

}  // namespace

Client::Client(const Options& options) : options_(options) {
  std::string trouble;
  do {
    trouble = connect_once();
    if (trouble.empty()) return;
    std::this_thread::sleep_for(kBetweenTries);
  } while (Clock::now() < options_.deadline);
  // If another job answered and ended before the last try, that try was refused by the system.
  throw CommError(fmt::format(
      "connect: {} found no rendezvous at {}: {}; another program may have this port, or rank 0 "
      "has ended",
      options_.who, endpoint_of(options_), met_other_job_ ? kOtherJob : trouble));
}

// Returns what went wrong and may be well at the next try, or an empty text.
std::string Client::connect_once() {
  const auto deadline = std::min(options_.deadline, Clock::now() + kOneTry);
  std::string trouble = "it has no address";
  const SocketAddresses addresses = resolve(options_.address, options_.port, trouble);
  for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
    socket_ = connect_to(*address, deadline, trouble);
    if (!socket_.is_open()) continue;
    ClientHandshake handshake(options_.identity);
    std::string bytes;
    trouble = receive_exactly(socket_.fd(), kGreetingBytes, bytes, deadline);
    if (!trouble.empty()) continue;
    const auto hello = handshake.hello(bytes);
    if (!hello) {
      trouble = "what answers is no rank of trireme";
      continue;
    }
    trouble = send_all(socket_.fd(), *hello, deadline);
    if (trouble.empty()) trouble = receive_exactly(socket_.fd(), kAnswerBytes, bytes, deadline);
    if (!trouble.empty()) continue;
    const auto verdict = handshake.verdict(bytes);
    if (verdict == Verdict::kWelcome) {
      session_ = handshake.session();
      received_.clear();
      return {};
    }
    if (verdict == Verdict::kOtherSecret) refuse_secret(options_);
    if (verdict == Verdict::kOtherJob) met_other_job_ = true;
    trouble = verdict == Verdict::kOtherJob ? kOtherJob : "what answers is no rank of trireme";
  }
  socket_.close();
  return trouble;
}

std::optional<std::string> Client::request(const StoreRequest& request, Deadline deadline) {
  const std::lock_guard lock(mutex_);
  std::string trouble = socket_.is_open() ? "" : "the connection was closed";
  std::string reply;
  if (trouble.empty()) {
    trouble = send_all(socket_.fd(), session_.to_server.seal(encode(request)), deadline);
  }
  while (trouble.empty()) {
    const Seal::Opened opened = session_.to_client.open(received_, reply);
    if (opened == Seal::Opened::kText && !reply.empty()) {
      return reply[0] == '\1' ? std::optional(reply.substr(1)) : std::nullopt;
    }
    trouble = opened == Seal::Opened::kMore
                  ? receive_some(socket_.fd(), std::string::npos, received_, deadline)
                  : "its reply was changed on the way";
  }
  // What would come next could not be told from a late reply.
  socket_.close();
  throw CommError(fmt::format("connect: {} has lost the rendezvous at {}: {}; see what rank 0 says",
                              options_.who, endpoint_of(options_), trouble));
}

}  // namespace trireme::rendezvous
