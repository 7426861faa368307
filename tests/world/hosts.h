#pragma once

#include <string>
#include <vector>

#include "tests/world/child.h"
#include "trireme/base/file_descriptor.h"

namespace trireme::test {

/// Hosts on a switch, for tests: network namespaces joined by pairs of veth and a bridge.
///
///     TestHosts hosts(2);
///     Child rank = hosts.start(1, {"program"}, {{"MASTER_ADDR", hosts.address(0)}});
///     hosts.cut(1);
///
/// The namespaces have no names and belong to this process and the programs in them, so they
/// disappear when these end and tests do not affect each other. Needs root and iproute2; otherwise
/// it throws std::runtime_error with the reason.
class TestHosts {
 public:
  explicit TestHosts(int hosts);

  std::string address(int host) const;

  /// Runs `command` on a host.
  Child start(int host, const std::vector<std::string>& command,
              const Variables& variables = {}) const;

  /// From now on each host sends at no more than `rate`, "1gbit".
  void slow_down(const std::string& rate) const;

  /// Pulls the cable of a host, and puts it back.
  void cut(int host) const;
  void mend(int host) const;

 private:
  void run(const FileDescriptor& host, const std::string& command) const;

  FileDescriptor switch_;
  std::vector<FileDescriptor> hosts_;
};

}  // namespace trireme::test
