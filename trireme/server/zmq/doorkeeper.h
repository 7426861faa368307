#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <zmq.hpp>

namespace trireme::server {

/// Says which keys get in (ZAP, rfc.zeromq.org/spec/27): those of the files NAME.key in a folder,
/// which is looked at again when somebody knocks, so that keys come and go while it runs. One a
/// context, there before any socket listens and gone before the context is.
class Doorkeeper {
 public:
  /// Of sockets with this ZMQ_ZAP_DOMAIN.
  static constexpr const char* kDomain = "trireme";

  /// Throws DataError if the folder or a key in it cannot be read, or if there is none.
  Doorkeeper(zmq::context_t& context, std::filesystem::path clients);
  ~Doorkeeper();

 private:
  void run();
  void answer_one();

  std::filesystem::path folder_;
  zmq::socket_t door_;
  zmq::socket_t stop_;                        // tells the thread,
  zmq::socket_t told_;                        // which listens here
  std::map<std::string, std::string> names_;  // by the 32 bytes of the key
  std::thread thread_;
};

}  // namespace trireme::server
