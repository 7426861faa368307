#include "trireme/server/embedded/embedded_servers.h"

#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/server/server.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;

// One server's view of the desks.
class DeskServer final : public Answers {
 public:
  DeskServer(Station& station, int shard)
      : station_(station),
        shard_(shard),
        server_({.shard = shard, .shards = station.shards()}),
        clients_(static_cast<std::size_t>(station.workers())) {}

  void run() {
    while (!done()) {
      station_.asked(shard_).wait_until([this] { return somebody_asks(); }, 100ms);
      for (int worker = 0; worker < station_.workers(); ++worker) take(worker);
      if (!somebody_asks()) look_for_the_lost();
    }
    for (int worker = 0; worker < station_.workers(); ++worker) release(worker);
  }

  std::span<std::byte> place(const Request& request, std::size_t part, std::size_t bytes) override {
    const int worker = static_cast<int>(request.from);
    Client& client = clients_[request.from];
    // The i-th part that asks has the i-th place.
    std::size_t asking = 0;
    for (std::size_t i = 0; i < part; ++i) {
      if (!Store::is_gradient(request.message.parts[i])) ++asking;
    }
    const Desk::Place place = client.wanted[asking];
    client.answer.push_back({place.offset, bytes});
    if (bytes > place.bytes)
      throw UsageError("parameter server: an answer is larger than its place");
    return {station_.part(worker) + place.offset, bytes};
  }

  void answer(const Request& request, const Message& answer) override {
    const int worker = static_cast<int>(request.from);
    Client& client = clients_[request.from];
    Desk& desk = station_.desk(worker, shard_);
    std::string head = encode_head(answer);
    const std::size_t places = client.answer.size() * sizeof(Desk::Place);
    if (head.size() + places > sizeof desk.paper) {
      head = encode_head({.verb = Verb::kRefusal,
                          .sequence = answer.sequence,
                          .clock = kUsageFault,
                          .text = "parameter server: an answer has too many parts"});
      client.answer.clear();
    }
    std::memcpy(desk.paper, head.data(), head.size());
    if (places > 0) std::memcpy(desk.paper + padded(head.size()), client.answer.data(), places);
    desk.answer_bytes = head.size();
    desk.answers = client.answer.size();
    client.answer.clear();
    desk.answered.store(client.asked);
    station_.front(worker).answered.ring();
  }

 private:
  struct Client {
    std::uint64_t asked = 0;  // the last request that was taken
    std::vector<Desk::Place> wanted;
    std::vector<Desk::Place> answer;
    FileDescriptor process;  // open while it runs, if it is another process
    bool is_watched = false;
    bool is_lost = false;
    bool is_released = false;
  };

  bool done() const {
    return station_.front(0).gone.load() != 0 ||
           std::ranges::all_of(clients_, [](const Client& client) { return client.is_released; });
  }

  bool is_asking(int worker) const {
    const Client& client = clients_[static_cast<std::size_t>(worker)];
    return !client.is_released && station_.desk(worker, shard_).asked.load() != client.asked;
  }

  // The worker may take its memory away then.
  void release(int worker) {
    Client& client = clients_[static_cast<std::size_t>(worker)];
    if (client.is_released) return;
    client.is_released = true;
    station_.front(worker).released.fetch_add(1);
  }

  bool somebody_asks() const {
    for (int worker = 0; worker < station_.workers(); ++worker) {
      if (is_asking(worker)) return true;
    }
    return done();
  }

  void take(int worker) {
    Desk& desk = station_.desk(worker, shard_);
    Client& client = clients_[static_cast<std::size_t>(worker)];
    if (!is_asking(worker)) return;
    client.asked = desk.asked.load();
    std::vector<Desk::Place> places(desk.payloads + desk.wanted);
    std::ranges::copy(
        std::span(desk.paper + padded(desk.head_bytes), places.size() * sizeof(Desk::Place)),
        std::as_writable_bytes(std::span(places)).begin());
    std::vector<std::span<const std::byte>> bodies;
    for (std::size_t i = 0; i < desk.payloads; ++i) {
      bodies.emplace_back(station_.part(worker) + places[i].offset, places[i].bytes);
    }
    client.wanted.assign(places.begin() + static_cast<std::ptrdiff_t>(desk.payloads), places.end());
    client.answer.clear();
    Request request{.from = static_cast<std::uint64_t>(worker)};
    request.message = decode({desk.paper, desk.head_bytes}, bodies);
    const bool leaves = request.message.verb == Verb::kLeave;
    server_.handle(std::move(request), now(), *this);
    if (leaves) release(worker);
  }

  void look_for_the_lost() {
    for (int worker = 0; worker < station_.workers(); ++worker) {
      Client& client = clients_[static_cast<std::size_t>(worker)];
      if (client.is_lost) {  // perhaps before there was a model
        server_.lose(static_cast<std::uint32_t>(worker), "it ended before it joined", *this);
      }
      if (client.is_released) continue;
      std::string why;
      if (station_.front(worker).gone.load() != 0) {
        why = "it ended in an error";
      } else if (has_ended(client, station_.front(worker).process.load())) {
        why = "its process has ended";
      } else {
        continue;
      }
      client.is_lost = true;
      server_.lose(static_cast<std::uint32_t>(worker), why, *this);
      release(worker);
    }
  }

  static bool has_ended(Client& client, pid_t process) {
    if (process == ::getpid()) return false;
    if (!client.is_watched) {
      client.process = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
      client.is_watched = true;
      if (!client.process.is_open()) return errno == ESRCH;
    }
    if (!client.process.is_open()) return false;
    pollfd polled{client.process.fd(), POLLIN, 0};
    return ::poll(&polled, 1, 0) > 0;
  }

  static Server::Time now() { return std::chrono::steady_clock::now().time_since_epoch(); }

  Station& station_;
  int shard_;
  Server server_;
  std::vector<Client> clients_;
};

// The core of rank 0, to which its threads may be pinned, has work of its own.
void use_any_core() {
  cpu_set_t all;
  CPU_ZERO(&all);
  const long cores = ::sysconf(_SC_NPROCESSORS_CONF);
  for (long core = 0; core < cores && core < CPU_SETSIZE; ++core) CPU_SET(core, &all);
  ::sched_setaffinity(0, sizeof all, &all);
}

}  // namespace

EmbeddedServers::EmbeddedServers(Station& station) {
  for (int shard = 0; shard < station.shards(); ++shard) {
    threads_.emplace_back([&station, shard] {
      use_any_core();
      DeskServer(station, shard).run();
    });
  }
}

EmbeddedServers::~EmbeddedServers() {
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace trireme::server
