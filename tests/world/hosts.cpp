#include "tests/world/hosts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace trireme::test {

namespace {

constexpr const char* kNeeds = "hosts for tests need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)";

// Only a thread of its own moves there, and it ends.
FileDescriptor new_network() {
  int fd = -1;
  int error = 0;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) != 0) {
      error = errno;
    } else {
      fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    }
  }).join();
  if (fd < 0) {
    throw std::runtime_error(
        fmt::format("no network namespace: {}; {}", std::strerror(error), kNeeds));
  }
  return FileDescriptor(fd);
}

void enter(int network) {
  if (setns(network, CLONE_NEWNET) != 0) _exit(125);
}

std::vector<std::string> words_of(const std::string& command) {
  std::istringstream in(command);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

}  // namespace

TestHosts::TestHosts(int hosts) : switch_(new_network()) {
  run(switch_, "ip link add bridge0 type bridge");
  run(switch_, "ip link set bridge0 up");
  for (int host = 0; host < hosts; ++host) {
    hosts_.push_back(new_network());
    const std::string port = fmt::format("port{}", host);
    run(switch_, fmt::format("ip link add {} type veth peer name eth0 netns /proc/{}/fd/{}", port,
                             getpid(), hosts_[host].fd()));
    run(switch_, fmt::format("ip link set {} master bridge0", port));
    run(switch_, fmt::format("ip link set {} up", port));
    run(hosts_[host], "ip link set lo up");
    run(hosts_[host], fmt::format("ip address add {}/24 dev eth0", address(host)));
    run(hosts_[host], "ip link set eth0 up");
  }
}

std::string TestHosts::address(int host) const {
  // Above 127: Gloo lets the larger of two addresses connect, and loopback is no escape.
  return fmt::format("192.168.0.{}", host + 1);
}

Child TestHosts::start(int host, const std::vector<std::string>& command,
                       const Variables& variables) const {
  const int network = hosts_.at(host).fd();
  return Child(command, variables, [network] { enter(network); });
}

void TestHosts::slow_down(const std::string& rate) const {
  for (const FileDescriptor& host : hosts_) {
    run(host,
        fmt::format("tc qdisc replace dev eth0 root tbf rate {} burst 128kb latency 20ms", rate));
  }
}

void TestHosts::cut(int host) const {
  run(switch_, fmt::format("ip link set port{} down", host));
}

void TestHosts::mend(int host) const {
  run(switch_, fmt::format("ip link set port{} up", host));
}

void TestHosts::run(const FileDescriptor& host, const std::string& command) const {
  const int network = host.fd();
  const Outcome outcome = Child(words_of(command), {}, [network] { enter(network); }).wait();
  if (outcome.exit_code == 0) return;
  throw std::runtime_error(fmt::format("\"{}\" failed with exit code {}: {}; {} and iproute2",
                                       command, outcome.exit_code, outcome.out, kNeeds));
}

}  // namespace trireme::test
