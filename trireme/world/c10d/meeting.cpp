#include "trireme/world/c10d/meeting.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/host_name.h"
#include "trireme/formats/printable.h"
#include "trireme/world/c10d/endpoint.h"
#include "trireme/world/c10d/rank_store.h"

namespace trireme::c10d {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kBetweenLooks{20};
// The rank that serves the store stays for this time, so that the others can read why it ends.
constexpr milliseconds kFarewell{5000};

// The first letter of an error in the store.
constexpr char kUsage = 'U';
constexpr char kMissing = 'M';

std::vector<std::uint8_t> bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

std::string this_process() {
  return fmt::format("process {} on {}", getpid(), host_name());
}

}  // namespace

Meeting::Meeting(const Rendezvous& rendezvous, std::string greeting)
    : rendezvous_(rendezvous),
      greeting_(std::move(greeting)),
      serves_(rendezvous.rank == 0 && !rendezvous.store_is_served),
      deadline_(Clock::now() + rendezvous.timeout),
      next_notice_(Clock::now() + rendezvous.first_notice),
      between_notices_(rendezvous.first_notice) {
  if (serves_) {
    server_ = std::make_unique<rendezvous::Server>(rendezvous::Server::Options{
        .identity = {rendezvous_.job, rendezvous_.secret},
        .port = rendezvous_.master_port,
        .on_loopback = rendezvous_.is_one_host && is_loopback(rendezvous_.master_address),
        .ranks = rendezvous_.world_size});
  }
  address_ = address_towards_master(rendezvous_, deadline_);
  if (!rendezvous_.interface_address.empty()) address_ = rendezvous_.interface_address;
  store_ = with_prefix("trireme/" + rendezvous_.attempt, join_store());
  store_->add("joined", 1);
}

Store Meeting::join_store() {
  // The timeout of libtorch, which logs an error, must be later than that of join().
  const milliseconds timeout = left() + 2 * kFarewell;
  if (rendezvous_.store_is_served) return open_store(rendezvous_, false, timeout);
  return c10::make_intrusive<RankStore>(
      rendezvous::Client::Options{
          .identity = {rendezvous_.job, rendezvous_.secret},
          .who = fmt::format("rank {} of {}", rendezvous_.rank, rendezvous_.world_size),
          .address = rendezvous_.master_address,
          .port = rendezvous_.master_port,
          .deadline = deadline_},
      timeout);
}

milliseconds Meeting::left() const {
  const auto left = std::chrono::duration_cast<milliseconds>(deadline_ - Clock::now());
  return std::max(left, milliseconds(1));
}

void Meeting::gather() {
  claim_rank();
  compare_greeting();
  store_->set(fmt::format("address/{}", rendezvous_.rank), bytes_of(address_));
  store_->set(fmt::format("here/{}", rendezvous_.rank), bytes_of("yes"));
  store_->add("here", 1);
  while (store_->add("here", 0) < rendezvous_.world_size) {
    if (store_->check({"verdict"})) leave_with(read("verdict"));
    if (Clock::now() >= deadline_) raise(who_is_missing());
    if (rendezvous_.on_notice) give_notice();
    std::this_thread::sleep_for(kBetweenLooks);
  }
  if (rendezvous_.interface_address.empty()) leave_loopback();
}

// On rank 0's host the name of the host is often a loopback address, at which other hosts do not
// reach it.
void Meeting::leave_loopback() {
  if (!is_loopback(address_)) return;
  for (int rank = 0; rank < rendezvous_.world_size; ++rank) {
    const std::string peer = read(fmt::format("address/{}", rank));
    if (is_loopback(peer)) continue;
    const std::string own = address_towards(peer);
    if (!own.empty()) address_ = own;
    return;
  }
}

void Meeting::conclude() {
  store_->add("concluded", 1);
  while (serves_ && store_->add("concluded", 0) < rendezvous_.world_size) {
    if (Clock::now() >= deadline_) return;
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

void Meeting::claim_rank() {
  const std::string process = this_process();
  const std::string key = fmt::format("process/{}", rendezvous_.rank);
  if (store_->add(key + "/claims", 1) == 1) {
    store_->set(key, bytes_of(process));
    return;
  }
  raise(fmt::format(
      "{}connect: two processes claim rank {} of {}: {} and {}; give each process a RANK of its "
      "own",
      kUsage, rendezvous_.rank, rendezvous_.world_size, read(key), process));
}

void Meeting::compare_greeting() {
  const std::string own = fmt::format("rank {} is \"{}\"", rendezvous_.rank, greeting_);
  const std::string first = write_first("greeting", own);
  if (first.substr(first.find('"')) == own.substr(own.find('"'))) return;
  raise(fmt::format(
      "{}connect: {}, {}; start the same program with the same number of ranks everywhere", kUsage,
      first, own));
}

std::vector<int> Meeting::missing_ranks() {
  std::vector<int> missing;
  for (int rank = 0; rank < rendezvous_.world_size; ++rank) {
    if (!store_->check({fmt::format("here/{}", rank)})) missing.push_back(rank);
  }
  return missing;
}

std::string Meeting::who_is_missing() {
  const std::vector<int> missing = missing_ranks();
  return fmt::format(
      "{}connect: {} {} of {} did not come to {} within {:.1f} s; see whether they were started "
      "and what they say{}",
      kMissing, missing.size() == 1 ? "rank" : "ranks", fmt::join(missing, ", "),
      rendezvous_.world_size, endpoint_of(rendezvous_),
      static_cast<double>(rendezvous_.timeout.count()) / 1000, refusals());
}

std::string Meeting::refusals() const {
  const auto refused = server_ ? server_->refused() : std::vector<std::string>();
  return refused.empty() ? "" : fmt::format("; refused: {}", fmt::join(refused, "; "));
}

void Meeting::give_notice() {
  const auto refused = server_ ? server_->refused() : std::vector<std::string>();
  for (; refusals_noticed_ < refused.size(); ++refusals_noticed_) {
    rendezvous_.on_notice(
        fmt::format("refused {}; the ranks of a job have one secret (--job-secret, "
                    "TRIREME_JOB_SECRET_FILE) and "
                    "one id (TRIREME_JOB_ID)",
                    refused[refusals_noticed_]));
  }
  if (Clock::now() < next_notice_) return;
  between_notices_ *= 2;
  next_notice_ = Clock::now() + between_notices_;
  const std::vector<int> missing = missing_ranks();
  if (missing.empty()) return;
  rendezvous_.on_notice(fmt::format(
      "waiting at {} for {} {} of {}, for {:.0f} s more at most", endpoint_of(rendezvous_),
      missing.size() == 1 ? "rank" : "ranks", fmt::join(missing, ", "), rendezvous_.world_size,
      static_cast<double>(left().count()) / 1000));
}

void Meeting::raise(const std::string& verdict) {
  leave_with(write_first("verdict", verdict));
}

void Meeting::leave_with(const std::string& verdict) {
  store_->add("left", 1);
  const auto end = Clock::now() + kFarewell;
  while (serves_ && Clock::now() < end) {
    const std::int64_t joined = store_->add("joined", 0);
    const bool more_may_come = !verdict.starts_with(kMissing) && joined < rendezvous_.world_size;
    if (!more_may_come && store_->add("left", 0) >= joined) break;
    std::this_thread::sleep_for(kBetweenLooks);
  }
  // Whatever was written there, by torchrun's store or by a rank.
  if (verdict.empty()) throw CommError("connect: a rank has ended the meeting without a reason");
  if (verdict[0] == kUsage) throw UsageError(verdict.substr(1));
  throw CommError(verdict.substr(1));
}

std::string Meeting::read(const std::string& key) {
  const std::vector<std::uint8_t> bytes = store_->get(key);
  return without_control_characters(std::string(bytes.begin(), bytes.end()));
}

std::string Meeting::write_first(const std::string& key, const std::string& text) {
  const std::vector<std::uint8_t> bytes = store_->compareSet(key, {}, bytes_of(text));
  return without_control_characters(std::string(bytes.begin(), bytes.end()));
}

}  // namespace trireme::c10d
