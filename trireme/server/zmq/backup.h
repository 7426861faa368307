#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>
#include <zmq.hpp>

#include "trireme/server/message.h"
#include "trireme/server/server.h"
#include "trireme/server/zmq/backup_link.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::server {

/// A server's backup: it is sent the journal, and answers are kept back until it has what they tell
/// of, which is all that the server had done by then. One thread.
///
///     if (backup.has_all()) { send(...); } else { backup.keep(...); }
class Backup {
 public:
  using Send = std::function<void(std::uint64_t to, const Message& answer,
                                  std::vector<zmq::message_t> bodies)>;

  /// From now on `server` keeps its journal here. Throws UsageError for an address that cannot be
  /// one or that nobody should be followed at without keys, DataError for a key that cannot be
  /// read.
  Backup(zmq::context_t& context, const ZmqServer::Options& options, const KeyPair& keys,
         Server& server);

  /// True if it has all that the server has done, or has been given up.
  bool has_all() const { return link_.has(link_.appended()); }

  /// It stayed away, and is not up to date any more.
  bool is_given_up() const { return link_.is_given_up(); }

  /// `answer` goes out once the backup has all that the server has done by now.
  void keep(std::uint64_t to, const Message& answer, std::vector<zmq::message_t> bodies);

  void add_poll_items(std::vector<zmq::pollitem_t>& items) { link_.add_poll_items(items); }

  /// Reads what has come and sends what need not be kept any more, in the order in which it was
  /// given; never waits. Throws what BackupLink::look() does.
  void look(const Send& send);

 private:
  struct Kept {
    std::uint64_t entry = 0;  // that the backup must have
    std::uint64_t to = 0;
    Message answer;
    std::vector<zmq::message_t> bodies;
  };

  BackupLink link_;
  std::deque<Kept> kept_;
};

}  // namespace trireme::server
