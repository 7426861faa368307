#pragma once

#include "trireme/comm/hierarchical/hosts.h"
#include "trireme/comm/hierarchical/staging_area.h"
#include "trireme/comm/message/exchange.h"

namespace trireme::hosts {

/// Returns true if `operation` moves through shared memory inside each host and along rails between
/// hosts. Other operations move from rank to rank.
bool moves_by_hosts(const Operation& operation);

/// Moves every `stride`-th chunk of `operation`, from chunk `first` on. Inside a host, data moves
/// through `staging`; between hosts, each leader moves its slice along `rail`, whose ranks are the
/// hosts.
void move_by_hosts(const Operation& operation, const Hosts& hosts, StagingArea& staging,
                   const message::Exchange& rail, int first, int stride);

}  // namespace trireme::hosts
