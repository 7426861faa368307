#include "trireme/server/zmq/zap_authenticator.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <system_error>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/server/zmq/keys.h"

namespace trireme::server {

namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kMostKeys = 65536;
constexpr std::size_t kMostZapFrames = 16;

std::string bytes_of_key(const std::string& z85) {
  std::string bytes(kKeyBytes, '\0');
  zmq_z85_decode(reinterpret_cast<std::uint8_t*>(bytes.data()), z85.c_str());
  return bytes;
}

// The keys of a folder. Files without a valid key are skipped and named in `bad`.
std::map<std::string, std::string> keys_in(const std::filesystem::path& folder,
                                           std::vector<std::string>& bad) {
  std::map<std::string, std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    if (at->path().extension() != ".key") continue;
    if (names.size() == kMostKeys) break;
    try {
      names[bytes_of_key(read_public_key(at->path()))] = at->path().stem().string();
    } catch (const DataError& unreadable) {
      bad.emplace_back(unreadable.what());
    }
  }
  if (error) bad.push_back(fmt::format("{}: {}", folder.string(), error.message()));
  return names;
}

}  // namespace

ZapAuthenticator::ZapAuthenticator(zmq::context_t& context, std::filesystem::path clients)
    : folder_(std::move(clients)),
      requests_(context, zmq::socket_type::rep),
      stop_(context, zmq::socket_type::pair),
      stopped_(context, zmq::socket_type::pair) {
  std::vector<std::string> bad;
  names_ = keys_in(folder_, bad);
  if (!bad.empty()) throw DataError(bad.front());
  if (names_.empty()) {
    throw DataError(
        fmt::format("{}: holds no NAME.key of a client, so that no client could connect; "
                    "make one with `trireme keys new`",
                    folder_.string()));
  }
  requests_.set(zmq::sockopt::linger, 0);
  requests_.bind("inproc://zeromq.zap.01");
  stopped_.bind("inproc://stop-zap-authenticator");
  stop_.connect("inproc://stop-zap-authenticator");
  thread_ = start_thread("parameter server: authentication", [this] { run(); });
}

ZapAuthenticator::~ZapAuthenticator() {
  stop_.send(zmq::message_t(), zmq::send_flags::none);
  thread_.join();
}

void ZapAuthenticator::run() {
  using namespace std::chrono_literals;
  auto read_at = std::chrono::steady_clock::now();
  std::array<zmq::pollitem_t, 2> items = {
      {{requests_.handle(), 0, ZMQ_POLLIN, 0}, {stopped_.handle(), 0, ZMQ_POLLIN, 0}}};
  for (;;) {
    zmq::poll(items.data(), items.size(), -1ms);
    if (items[1].revents != 0) return;
    // At most once a second: any client that knows the server's key can cause a request.
    if (const auto now = std::chrono::steady_clock::now(); now - read_at > 1s) {
      read_at = now;
      std::vector<std::string> half_written;
      names_ = keys_in(folder_, half_written);
    }
    reply_to_one();
  }
}

void ZapAuthenticator::reply_to_one() {
  std::vector<std::string> frames;
  zmq::message_t frame;
  do {
    if (!requests_.recv(frame, zmq::recv_flags::none)) return;
    if (frames.size() < kMostZapFrames) frames.push_back(frame.to_string());
  } while (frame.more());
  // version, request, domain, address, identity, mechanism, the key
  const bool is_known = frames.size() == 7 && frames[0] == "1.0" && frames[2] == kDomain &&
                        frames[5] == "CURVE" && names_.contains(frames[6]);
  const std::string request = frames.size() > 1 ? frames[1] : "";
  const std::string name = is_known ? names_[frames[6]] : "";
  const std::array<std::string, 6> reply = {
      "1.0", request, is_known ? "200" : "400", is_known ? "OK" : "no listed client", name, ""};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    requests_.send(zmq::buffer(reply[i]),
                   i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

}  // namespace trireme::server
