#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace trireme::server {

/// Logs rejected messages and connections, with a limited rate: the first at once, then one line
/// every few seconds with their number. One thread, except for count().
class RejectionLog {
 public:
  explicit RejectionLog(std::function<void(const std::string& line)> log) : log_(std::move(log)) {}

  void add(const std::string& what);
  /// Logs what add() has held back. Must be called from time to time.
  void time_passed();

  std::int64_t count() const { return count_; }

 private:
  std::function<void(const std::string& line)> log_;
  std::atomic<std::int64_t> count_{0};
  std::int64_t logged_ = 0;
  std::chrono::steady_clock::time_point quiet_until_;
  std::string last_;
};

}  // namespace trireme::server
