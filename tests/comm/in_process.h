#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "trireme/comm/message/transport.h"

namespace trireme::test {

/// A network between threads of one process: the simplest Transport there is, for the suites and
/// for ThreadSanitizer. Counts what moves.
class Network {
 public:
  explicit Network(int ranks);

  std::unique_ptr<message::Transport> transport(int rank);

  /// `rank` is lost, as if its process had been killed.
  void kill(int rank, const std::string& why);
  /// Drops the frames that `rank` sends from now on, as if its host were out of reach.
  void silence(int rank);

  /// Returns the bytes of chunks that `rank` has sent so far.
  std::int64_t bytes_sent(int rank) const;
  std::int64_t frames_sent(int rank) const;

 private:
  friend class InProcessTransport;
  friend class InProcessTransfer;

  /// Chunks from one rank to another with one tag.
  struct Stream {
    std::uint64_t sent = 0;      // numbers given to sends
    std::uint64_t expected = 0;  // .. to receives
    std::map<std::uint64_t, std::vector<char>> chunks;
  };
  using StreamKey = std::tuple<int, int, int>;  // from, to, tag

  /// What the threads of one rank wait for.
  struct Inbox {
    std::condition_variable frame_came;
    std::condition_variable chunk_came;  // or somebody is lost, or a transfer is aborted
  };

  mutable std::mutex mutex_;
  std::vector<Inbox> inboxes_;
  std::vector<std::deque<message::Arrival>> frames_;  // to each rank
  std::map<StreamKey, Stream> streams_;
  std::vector<std::string> lost_;  // why; empty: here
  std::vector<char> silent_;
  std::vector<std::int64_t> bytes_sent_;
  std::vector<std::int64_t> frames_sent_;
};

}  // namespace trireme::test
