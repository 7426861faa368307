#include "trireme/world/c10d/process_group.h"

#include <c10/util/Logging.h>
#include <pthread.h>
#include <signal.h>
#include <torch/version.h>

#include <atomic>
#include <ctime>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace trireme::c10d {

namespace {

at::Tensor bytes_at(const void* data, std::size_t bytes) {
  return at::from_blob(const_cast<void*>(data), {static_cast<std::int64_t>(bytes)}, at::kByte);
}

sigset_t only_sigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

}  // namespace

Store open_store(const Rendezvous& rendezvous, bool serves, std::chrono::milliseconds timeout) {
  ::c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(rendezvous.master_port);
  options.isServer = serves;
  options.numWorkers = rendezvous.world_size;
  options.waitWorkers = false;
  options.timeout = timeout;
#if TORCH_VERSION_MAJOR >= 2
  // Not every build has the other kind of server; both have the same protocol.
  options.useLibUV = false;
#endif
  return c10::make_intrusive<::c10d::TCPStore>(rendezvous.master_address, options);
}

Store with_prefix(const std::string& prefix, Store store) {
  return c10::make_intrusive<::c10d::PrefixStore>(prefix, std::move(store));
}

c10::intrusive_ptr<GlooGroup> GlooGroup::connect(const Store& store, const Rendezvous& rendezvous,
                                                 const std::string& address) {
  auto options = Options::create(kForever);
  options->threads = 1;
  options->devices.push_back(createDeviceForHostname(address));
  return c10::make_intrusive<GlooGroup>(store, rendezvous.rank, rendezvous.world_size,
                                        std::move(options));
}

GlooGroup::GlooGroup(const Store& store, int rank, int size, c10::intrusive_ptr<Options> options)
    : ProcessGroupGloo(store, rank, size, std::move(options)) {}

GlooWork GlooGroup::begin_send(const void* data, std::size_t bytes, int to, int tag) {
  std::vector<at::Tensor> tensors{bytes_at(data, bytes)};
  return send(tensors, to, tag);
}

GlooWork GlooGroup::begin_recv(void* data, std::size_t bytes, int from, int tag) {
  std::vector<at::Tensor> tensors{bytes_at(data, bytes)};
  return recv(tensors, from, tag);
}

void GlooGroup::close() {
  // Any receive whose wait times out makes Gloo close all connections.
  const WithoutSigpipe without_sigpipe;
  char nothing = 0;
  for (int peer = 0; peer < getSize(); ++peer) {
    if (peer == getRank()) continue;
    GlooWork work;
    try {
      work = begin_recv(&nothing, 1, peer, kClosingTag);
    } catch (const std::exception&) {
      continue;
    }
    try {
      work->wait(std::chrono::milliseconds(1));
    } catch (const std::exception&) {
    }
    return;
  }
}

WithoutSigpipe::WithoutSigpipe() {
  const sigset_t sigpipe = only_sigpipe();
  pthread_sigmask(SIG_BLOCK, &sigpipe, &before_);
}

WithoutSigpipe::~WithoutSigpipe() {
  if (sigismember(&before_, SIGPIPE)) return;
  const sigset_t sigpipe = only_sigpipe();
  const timespec now{};
  sigtimedwait(&sigpipe, nullptr, &now);
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

// The level is added and subtracted, because ranks that are threads share it.
WithoutWarnings::WithoutWarnings() {
  std::atomic_ref(FLAGS_caffe2_log_level).fetch_add(1);
}

WithoutWarnings::~WithoutWarnings() {
  std::atomic_ref(FLAGS_caffe2_log_level).fetch_sub(1);
}

void leave_signals_to_others() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

std::string short_reason(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error ? torch_error->what_without_backtrace() : error.what();
  text = text.substr(0, text.find('\n'));
  // "[/build/gloo/pair.cc:589] Read error [10.0.0.2]:1234: Connection reset by peer"
  if (text.starts_with('[') && text.find("] ") != std::string::npos) {
    text.erase(0, text.find("] ") + 2);
  }
  for (const auto& [sign, reason] : {std::pair{"closed by peer", "connection closed by peer"},
                                     std::pair{"Socket closed", "connection closed by peer"},
                                     std::pair{"Broken pipe", "connection closed by peer"},
                                     std::pair{"reset by peer", "connection reset by peer"}}) {
    if (text.find(sign) != std::string::npos) return reason;
  }
  return text;
}

}  // namespace trireme::c10d
