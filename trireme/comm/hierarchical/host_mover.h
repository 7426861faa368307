#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/comm/hierarchical/hosts.h"
#include "trireme/comm/hierarchical/staging_area.h"
#include "trireme/comm/message/channel.h"
#include "trireme/comm/message/data_mover.h"

namespace trireme::hosts {

/// Moves collectives through shared memory inside each host and along rails between the hosts. A
/// large operation uses two staging areas: one chunk crosses between hosts while another moves
/// inside.
class HostMover final : public message::DataMover {
 public:
  /// `channel` connects the ranks of all `hosts` and must outlive this object; `inside` connects
  /// the ranks of this host. Collective on the host.
  HostMover(message::Channel& channel, Hosts hosts, std::unique_ptr<Communicator> inside);

  const Hosts& hosts() const { return hosts_; }
  Communicator& inside() { return *inside_; }

  bool move(const Operation& operation, int worker) override;
  void abort(const std::exception_ptr& error) override;

 private:
  static constexpr int kAreasPerWorker = 2;
  static constexpr int kAreas = kAreasPerWorker * message::Channel::kWorkers;

  void abort_areas(int first, int count);

  message::Channel& channel_;
  Hosts hosts_;
  std::unique_ptr<Communicator> inside_;
  std::vector<StagingArea> areas_;
  std::vector<int> rail_;  // transport ranks that this rank exchanges with, one for each host
};

}  // namespace trireme::hosts
