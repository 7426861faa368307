#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/message/transport.h"
#include "trireme/world/c10d/process_group.h"

namespace trireme::c10d {

class ChunkTransfer;

/// The transfers that are waited for. A thread ends each at its deadline, because a wait of Gloo
/// that times out closes the connections to all ranks.
class Transfers {
 public:
  Transfers();
  ~Transfers();

  /// Like Transport::begin(). Never throws CommError: wait() of the transfer does.
  static std::unique_ptr<message::Transfer> begin(const std::shared_ptr<Transfers>& transfers,
                                                  GlooGroup& group, int tag,
                                                  std::span<const message::Chunk> sends,
                                                  std::span<const message::Chunk> recvs);

 private:
  friend class ChunkTransfer;

  void watch();
  message::Deadline end_overdue();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ChunkTransfer*> waiting_;
  message::Deadline wakes_at_;
  bool is_over_ = false;
  std::thread watcher_;
};

/// "gloo: rank 2 is lost: connection closed by peer".
CommError lost_peer(int peer, const std::string& reason);

}  // namespace trireme::c10d
