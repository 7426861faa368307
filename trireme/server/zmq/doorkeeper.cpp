#include "trireme/server/zmq/doorkeeper.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <system_error>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/server/zmq/keys.h"

namespace trireme::server {

namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kMostKeys = 65536;
constexpr std::size_t kMostFrames = 16;

std::string bytes_of(const std::string& z85) {
  std::string bytes(kKeyBytes, '\0');
  zmq_z85_decode(reinterpret_cast<std::uint8_t*>(bytes.data()), z85.c_str());
  return bytes;
}

// Files that hold no key are left out and named in `bad`.
std::map<std::string, std::string> keys_in(const std::filesystem::path& folder,
                                           std::vector<std::string>& bad) {
  std::map<std::string, std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    if (at->path().extension() != ".key") continue;
    if (names.size() == kMostKeys) break;
    try {
      names[bytes_of(read_public_key(at->path()))] = at->path().stem().string();
    } catch (const DataError& unreadable) {
      bad.emplace_back(unreadable.what());
    }
  }
  if (error) bad.push_back(fmt::format("{}: {}", folder.string(), error.message()));
  return names;
}

}  // namespace

Doorkeeper::Doorkeeper(zmq::context_t& context, std::filesystem::path clients)
    : folder_(std::move(clients)),
      door_(context, zmq::socket_type::rep),
      stop_(context, zmq::socket_type::pair),
      told_(context, zmq::socket_type::pair) {
  std::vector<std::string> bad;
  names_ = keys_in(folder_, bad);
  if (!bad.empty()) throw DataError(bad.front());
  if (names_.empty()) {
    throw DataError(
        fmt::format("{}: holds no NAME.key of a client, so that nobody could come in; "
                    "make one with `trireme keys new`",
                    folder_.string()));
  }
  door_.set(zmq::sockopt::linger, 0);
  door_.bind("inproc://zeromq.zap.01");
  told_.bind("inproc://doorkeeper");
  stop_.connect("inproc://doorkeeper");
  thread_ = std::thread([this] { run(); });
}

Doorkeeper::~Doorkeeper() {
  stop_.send(zmq::message_t(), zmq::send_flags::none);
  thread_.join();
}

void Doorkeeper::run() {
  using namespace std::chrono_literals;
  auto looked = std::chrono::steady_clock::now();
  std::array<zmq::pollitem_t, 2> items = {
      {{door_.handle(), 0, ZMQ_POLLIN, 0}, {told_.handle(), 0, ZMQ_POLLIN, 0}}};
  for (;;) {
    zmq::poll(items.data(), items.size(), -1ms);
    if (items[1].revents != 0) return;
    // Once a second at most: whoever knows the server's key may knock.
    if (const auto now = std::chrono::steady_clock::now(); now - looked > 1s) {
      looked = now;
      std::vector<std::string> half_written;
      names_ = keys_in(folder_, half_written);
    }
    answer_one();
  }
}

void Doorkeeper::answer_one() {
  std::vector<std::string> frames;
  zmq::message_t frame;
  do {
    if (!door_.recv(frame, zmq::recv_flags::none)) return;
    if (frames.size() < kMostFrames) frames.push_back(frame.to_string());
  } while (frame.more());
  // version, request, domain, address, identity, mechanism, the key
  const bool is_known = frames.size() == 7 && frames[0] == "1.0" && frames[2] == kDomain &&
                        frames[5] == "CURVE" && names_.contains(frames[6]);
  const std::string request = frames.size() > 1 ? frames[1] : "";
  const std::string name = is_known ? names_[frames[6]] : "";
  const std::array<std::string, 6> reply = {
      "1.0", request, is_known ? "200" : "400", is_known ? "OK" : "no listed client", name, ""};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    door_.send(zmq::buffer(reply[i]),
               i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

}  // namespace trireme::server
