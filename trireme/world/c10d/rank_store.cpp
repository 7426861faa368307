#include "trireme/world/c10d/rank_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "trireme/base/error.h"

namespace trireme::c10d {

namespace {

using Clock = std::chrono::steady_clock;
using rendezvous::RequestKind;
using std::chrono::milliseconds;

constexpr milliseconds kBetweenReads{10};

std::string text_of(const RankStore::Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}

RankStore::Bytes to_bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

}  // namespace

std::optional<std::string> RankStore::ask(rendezvous::StoreRequest request) {
  return client_.request(request, Clock::now() + timeout_);
}

void RankStore::set(const std::string& key, const Bytes& value) {
  ask({.kind = RequestKind::kWrite, .key = key, .value = text_of(value)});
}

RankStore::Bytes RankStore::get(const std::string& key) {
  wait({key});
  return to_bytes(ask({.kind = RequestKind::kRead, .key = key}).value_or(""));
}

std::int64_t RankStore::add(const std::string& key, std::int64_t value) {
  // The client has checked that this is the reply of the server, which writes a number.
  return std::stoll(
      ask({.kind = RequestKind::kAdd, .key = key, .value = std::to_string(value)}).value_or("0"));
}

RankStore::Bytes RankStore::compareSet(const std::string& key, const Bytes& expected,
                                       const Bytes& desired) {
  return to_bytes(ask({.kind = RequestKind::kCompareSet,
                       .key = key,
                       .expected = text_of(expected),
                       .value = text_of(desired)})
                      .value_or(""));
}

bool RankStore::deleteKey(const std::string& key) {
  return ask({.kind = RequestKind::kErase, .key = key}).has_value();
}

bool RankStore::check(const std::vector<std::string>& keys) {
  return std::ranges::all_of(keys, [&](const std::string& key) {
    return ask({.kind = RequestKind::kRead, .key = key}).has_value();
  });
}

std::int64_t RankStore::getNumKeys() {
  return std::stoll(ask({.kind = RequestKind::kCount}).value_or("0"));
}

void RankStore::wait(const std::vector<std::string>& keys) {
  wait(keys, timeout_);
}

void RankStore::wait(const std::vector<std::string>& keys, const milliseconds& timeout) {
  const auto deadline = Clock::now() + timeout;
  while (!check(keys)) {
    if (Clock::now() >= deadline) {
      throw CommError(fmt::format("rendezvous: key {} was not written within {:.1f} s",
                                  keys.front(), static_cast<double>(timeout.count()) / 1000));
    }
    std::this_thread::sleep_for(kBetweenReads);
  }
}

}  // namespace trireme::c10d
