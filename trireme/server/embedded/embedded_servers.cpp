#include "trireme/server/embedded/embedded_servers.h"

#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/system_error.h"
#include "trireme/server/server.h"

namespace trireme::server {

using namespace std::chrono_literals;

// One server, and the slots through which workers talk with it.
class MailboxServer final : public ReplySink {
 public:
  MailboxServer(SharedMailbox& mailbox, int shard)
      : mailbox_(mailbox),
        shard_(shard),
        server_({.shard = shard, .shards = mailbox.shards()}),
        clients_(static_cast<std::size_t>(mailbox.workers())) {}

  void run() {
    while (!done()) {
      FutexEvent& requested = mailbox_.requested(shard_);
      if (!requested.poll([this] { return must_serve(); })) {
        requested.sleep_unless([this] { return has_request(); }, 100ms);
      }
      const std::lock_guard lock(mutex_);
      for (int worker = 0; worker < mailbox_.workers(); ++worker) take(worker);
      if (!has_request()) find_lost_workers();
    }
    const std::lock_guard lock(mutex_);
    for (int worker = 0; worker < mailbox_.workers(); ++worker) release(worker);
  }

  void serve_small() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return;
    served_by_worker_.fetch_add(1, std::memory_order_relaxed);
    for (int worker = 0; worker < mailbox_.workers(); ++worker) {
      const MailboxSlot& slot = mailbox_.slot(worker, shard_);
      if (is_requesting(worker) && slot.bytes <= MailboxSlot::kFewBytes) take(worker);
    }
  }

  std::span<std::byte> allocate_reply(const Request& request, std::size_t part,
                                      std::size_t bytes) override {
    const int worker = static_cast<int>(request.from);
    Client& client = clients_[request.from];
    // The i-th part that reads has the i-th output.
    const auto before = std::span(request.message.parts).first(part);
    const auto reads =
        std::ranges::count_if(before, [](const Part& other) { return !other.is_gradient(); });
    const MailboxSlot::Extent output = client.outputs[static_cast<std::size_t>(reads)];
    client.reply.push_back({output.offset, bytes});
    if (bytes > output.bytes) {
      throw UsageError("parameter server: a reply is larger than the memory that the worker named");
    }
    return {mailbox_.part(worker) + output.offset, bytes};
  }

  void send_reply(const Request& request, const Message& reply) override {
    const int worker = static_cast<int>(request.from);
    Client& client = clients_[request.from];
    MailboxSlot& slot = mailbox_.slot(worker, shard_);
    std::string header = encode_header(reply);
    if (header.size() + client.reply.size() * sizeof(MailboxSlot::Extent) > sizeof slot.buffer) {
      header = encode_header(error_reply(request.message, ErrorCode::kUsage,
                                         "parameter server: a reply has too many parts"));
      client.reply.clear();
    }
    std::memcpy(slot.buffer, header.data(), header.size());
    std::ranges::copy(std::as_bytes(std::span(client.reply)), slot.buffer + padded(header.size()));
    slot.reply_bytes = header.size();
    slot.reply_payloads = client.reply.size();
    client.reply.clear();
    slot.replies.store(client.requests);
    mailbox_.header(worker).replied.notify();
  }

 private:
  struct Client {
    std::atomic<std::uint64_t> requests = 0;   // that have been taken
    std::vector<MailboxSlot::Extent> outputs;  // of the last request
    std::vector<MailboxSlot::Extent> reply;    // payloads of the reply that is being made
    FileDescriptor process;                    // a pidfd, if the worker is another process
    bool is_watched = false;
    bool is_lost = false;
    std::atomic<bool> is_released = false;
  };

  bool done() const {
    return mailbox_.header(0).gone.load() != 0 ||
           std::ranges::all_of(clients_,
                               [](const Client& client) { return client.is_released.load(); });
  }

  bool is_requesting(int worker) const {
    const Client& client = clients_[static_cast<std::size_t>(worker)];
    return !client.is_released && mailbox_.slot(worker, shard_).requests.load() != client.requests;
  }

  // Afterwards the worker may free its memory.
  void release(int worker) {
    Client& client = clients_[static_cast<std::size_t>(worker)];
    if (client.is_released) return;
    client.is_released = true;
    mailbox_.header(worker).released.fetch_add(1);
  }

  // While the calls of rank 0's worker follow each other closely it serves, and the thread sleeps.
  bool must_serve() {
    const auto served = served_by_worker_.load(std::memory_order_relaxed);
    return std::exchange(served_before_, served) == served && has_request();
  }

  bool has_request() const {
    for (int worker = 0; worker < mailbox_.workers(); ++worker) {
      if (is_requesting(worker)) return true;
    }
    return done();
  }

  void take(int worker) {
    MailboxSlot& slot = mailbox_.slot(worker, shard_);
    Client& client = clients_[static_cast<std::size_t>(worker)];
    if (!is_requesting(worker)) return;
    client.requests = slot.requests.load();
    std::vector<MailboxSlot::Extent> extents(slot.payloads + slot.outputs);
    std::ranges::copy(std::span(slot.buffer + padded(slot.header_bytes),
                                extents.size() * sizeof(MailboxSlot::Extent)),
                      std::as_writable_bytes(std::span(extents)).begin());
    std::vector<std::span<const std::byte>> bodies;
    for (std::size_t i = 0; i < slot.payloads; ++i) {
      bodies.emplace_back(mailbox_.part(worker) + extents[i].offset, extents[i].bytes);
    }
    client.outputs.assign(extents.begin() + static_cast<std::ptrdiff_t>(slot.payloads),
                          extents.end());
    client.reply.clear();
    Request request{.from = static_cast<std::uint64_t>(worker)};
    request.message = decode({slot.buffer, slot.header_bytes}, bodies);
    const bool leaves = request.message.type == MessageType::kLeave;
    server_.handle(std::move(request), now(), *this);
    if (leaves) release(worker);
  }

  void find_lost_workers() {
    for (int worker = 0; worker < mailbox_.workers(); ++worker) {
      Client& client = clients_[static_cast<std::size_t>(worker)];
      if (client.is_lost) {  // perhaps before the server had a model schema
        server_.lose(static_cast<std::uint32_t>(worker), "it ended before it joined", *this);
      }
      if (client.is_released) continue;
      std::string why;
      if (mailbox_.header(worker).gone.load() != 0) {
        why = "it ended in an error";
      } else if (has_ended(client, mailbox_.header(worker).process.load())) {
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

  SharedMailbox& mailbox_;
  int shard_;
  // Between the thread and rank 0's worker, for all but their looks for requests.
  std::mutex mutex_;
  Server server_;
  std::vector<Client> clients_;
  std::atomic<std::uint64_t> served_by_worker_{0};  // times
  std::uint64_t served_before_ = 0;                 // of the thread
};

namespace {

// The threads of rank 0 may be pinned to its core, which computes.
void use_any_core() {
  cpu_set_t all;
  CPU_ZERO(&all);
  const long cores = ::sysconf(_SC_NPROCESSORS_CONF);
  for (long core = 0; core < cores && core < CPU_SETSIZE; ++core) CPU_SET(core, &all);
  ::sched_setaffinity(0, sizeof all, &all);
}

}  // namespace

EmbeddedServers::EmbeddedServers(SharedMailbox& mailbox) {
  for (int shard = 0; shard < mailbox.shards(); ++shard) {
    servers_.push_back(std::make_unique<MailboxServer>(mailbox, shard));
    threads_.push_back(start_thread("parameter server", [server = servers_.back().get()] {
      use_any_core();
      server->run();
    }));
  }
}

EmbeddedServers::~EmbeddedServers() {
  for (std::thread& thread : threads_) thread.join();
}

void EmbeddedServers::serve_small(int shard) {
  servers_[static_cast<std::size_t>(shard)]->serve_small();
}

}  // namespace trireme::server
