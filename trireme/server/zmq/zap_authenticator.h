#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <zmq.hpp>

namespace trireme::server {

/// Authenticates clients by their keys (ZAP, rfc.zeromq.org/spec/27): the keys of the files
/// NAME.key in a folder. The folder is read again when a client connects, so that keys can be added
/// and removed while the server runs. A context has one, made before any socket of it listens and
/// destroyed before the context.
class ZapAuthenticator {
 public:
  /// The ZMQ_ZAP_DOMAIN of the sockets whose clients it authenticates.
  static constexpr const char* kDomain = "trireme";

  /// Throws DataError if the folder or a key in it cannot be read, or if there is no key.
  ZapAuthenticator(zmq::context_t& context, std::filesystem::path clients);
  ~ZapAuthenticator();

 private:
  void run();
  void reply_to_one();

  std::filesystem::path folder_;
  zmq::socket_t requests_;
  zmq::socket_t stop_;                        // the destructor sends to
  zmq::socket_t stopped_;                     // the thread
  std::map<std::string, std::string> names_;  // by the 32 bytes of the key
  std::thread thread_;
};

}  // namespace trireme::server
