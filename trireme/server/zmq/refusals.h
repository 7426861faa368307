#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace trireme::server {

/// Says what was refused, and under an attack not much: the first at once, then one line every few
/// seconds with how many there were. One thread, but for count().
class Refusals {
 public:
  explicit Refusals(std::function<void(const std::string& line)> log) : log_(std::move(log)) {}

  void add(const std::string& what);
  /// Says what has been left unsaid.
  void time_passed();

  std::int64_t count() const { return count_; }

 private:
  std::function<void(const std::string& line)> log_;
  std::atomic<std::int64_t> count_{0};
  std::int64_t said_ = 0;
  std::chrono::steady_clock::time_point quiet_until_;
  std::string last_;
};

}  // namespace trireme::server
