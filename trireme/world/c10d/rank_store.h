#pragma once

#include <chrono>

#include "trireme/launch/rendezvous/client.h"
#include "trireme/world/c10d/process_group.h"

namespace trireme::c10d {

/// The store of a rendezvous (launch/rendezvous/client.h) in the form in which c10d and Gloo take
/// one. Functions that wait throw CommError after the timeout of the store. Any thread may use it.
class RankStore final : public ::c10d::Store {
 public:
  RankStore(const rendezvous::Client::Options& options, std::chrono::milliseconds timeout)
      : Store(timeout), client_(options) {}

  using Bytes = std::vector<std::uint8_t>;

  void set(const std::string& key, const Bytes& value) override;
  Bytes get(const std::string& key) override;
  std::int64_t add(const std::string& key, std::int64_t value) override;
  Bytes compareSet(const std::string& key, const Bytes& expected, const Bytes& desired) override;
  bool deleteKey(const std::string& key) override;
  bool check(const std::vector<std::string>& keys) override;
  std::int64_t getNumKeys() override;
  void wait(const std::vector<std::string>& keys) override;
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override;

 private:
  std::optional<std::string> ask(rendezvous::StoreRequest request);

  rendezvous::Client client_;
};

}  // namespace trireme::c10d
