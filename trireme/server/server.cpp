#include "trireme/server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/server/checkpoint_files.h"

namespace trireme::server {

namespace {

constexpr std::chrono::seconds kLongestHold{5};

// Of pushes that were averaged by their workers: one leaf each.
ReductionTree tree_over(int workers) {
  return ReductionTree(workers, workers);
}

ReductionTree tree_of(const Consistency& consistency) {
  if (consistency.virtual_workers.empty()) return tree_over(consistency.workers);
  std::vector<Range> parts;
  std::int64_t begin = 0;
  for (const int count : consistency.virtual_workers) {
    parts.push_back({begin, begin + count});
    begin = parts.back().end;
  }
  return ReductionTree(parts);
}

}  // namespace

Server::Server(Options options) : options_(std::move(options)) {}

void Server::check_wanted(const Message& message) const {
  std::size_t bytes = 0;
  for (const Part& part : message.parts) {
    if (Store::is_gradient(part)) continue;
    store_->check_wanted(part);
    bytes += store_->bytes_of(part);
  }
  if (options_.max_answer_bytes == 0 || bytes <= options_.max_answer_bytes) return;
  throw UsageError(fmt::format(
      "server {} of {}: answers with at most {} bytes, asked for {}; ask for less at a time or use "
      "more shards",
      options_.shard, options_.shards, options_.max_answer_bytes, bytes));
}

// Before anything is allocated for it.
void Server::check_memory(const Declaration& declaration) const {
  if (options_.max_model_bytes == 0) return;
  const std::size_t bytes = Store::dense_bytes(declaration, options_.shard, options_.shards);
  if (bytes <= options_.max_model_bytes) return;
  throw UsageError(fmt::format(
      "server {} of {}: may hold {} bytes, and its part of this model with the optimizer's state "
      "takes {}; use more shards",
      options_.shard, options_.shards, options_.max_model_bytes, bytes));
}

// Of rows that a push is going to make.
void Server::check_memory() const {
  if (options_.max_model_bytes == 0 || store_->row_bytes() <= options_.max_model_bytes) return;
  throw UsageError(fmt::format(
      "server {} of {}: may hold {} bytes, and the rows of its sparse tables take {}; use more "
      "shards",
      options_.shard, options_.shards, options_.max_model_bytes, store_->row_bytes()));
}

void Server::handle(Request request, Time now, Answers& answers) {
  const Message& message = request.message;
  workers_.hear(message, now);
  if (hold_ && now > hold_->until) go_on(now, answers);
  try {
    switch (message.verb) {
      case Verb::kJoin:
        join(request, answers);
        workers_.hear(message, now);
        return;
      case Verb::kStore:
        return store_values(request, answers);
      case Verb::kPush:
        push(std::move(request), answers);
        return answer_holder(answers);
      case Verb::kHold:
        return hold(std::move(request), now, answers);
      case Verb::kPull:
        return pull(std::move(request), answers);
      case Verb::kFetch:
        if (hold_ && hold_->life == message.life) hold_->until = now + kLongestHold;
        return fetch(request, answers);
      case Verb::kSettle:
        return settle(std::move(request), answers);
      case Verb::kSave:
        save(request, answers);
        // What it was held for has been written, however long that took.
        if (hold_ && hold_->life == message.life) go_on(now, answers);
        return;
      case Verb::kLeave:
        return leave(request, answers);
      case Verb::kPing:
        return answers.answer(request, {.verb = Verb::kAnswer,
                                        .worker = message.worker,
                                        .sequence = message.sequence,
                                        .clock = version_,
                                        .text = what_is_awaited()});
      case Verb::kAnswer:
      case Verb::kRefusal:
      case Verb::kFollow:
      case Verb::kLost:
      case Verb::kAlone:
        throw UsageError("message: only servers say so");
    }
  } catch (const DataError& error) {
    refuse(request, kDataFault, error.what(), answers);
  } catch (const CommError& error) {
    refuse(request, kCommFault, error.what(), answers);
  } catch (const Error& error) {
    refuse(request, kUsageFault, error.what(), answers);
  } catch (const std::bad_alloc&) {
    refuse(request, kUsageFault,
           fmt::format("server {} of {}: has not memory enough; use more shards", options_.shard,
                       options_.shards),
           answers);
  }
}

void Server::follow(Request entry, Answers& answers) {
  entry.from = kNobody;
  if (entry.message.verb == Verb::kLost) {
    return lose(entry.message.worker, entry.message.text, answers);
  }
  handle(std::move(entry), Time{}, answers);
}

void Server::append(const Message& entry) const {
  if (journal_ != nullptr) journal_->append(entry);
}

// One that takes the place of another begins where the slowest of the rest is, and holds nobody up.
std::int64_t Server::clock_of_new(std::uint32_t worker) const {
  if (is_synchronous()) return version_;
  const Worker& before = workers_[worker];
  if (before.presence == Presence::kAwaited) return before.clock;
  const std::int64_t slowest = workers_.slowest_clock(worker);
  const bool nobody_pushes = slowest == std::numeric_limits<std::int64_t>::max();
  return nobody_pushes ? before.clock : std::max(before.clock, slowest);
}

void Server::join(const Request& request, Answers& answers) {
  const Message& message = request.message;
  const Declaration theirs = parse_declaration(message.text);
  if (message.parts.size() != 1 || message.parts[0].first != options_.shard ||
      message.parts[0].count != options_.shards) {
    const Part asked = message.parts.empty() ? Part() : message.parts[0];
    throw UsageError(fmt::format(
        "worker {}: takes this server for number {} of {}, and it is number {} of {}; name all "
        "servers, in order",
        message.worker, asked.first, asked.count, options_.shard, options_.shards));
  }
  if (!store_) {
    check_memory(theirs);
    store_ = std::make_unique<Store>(theirs, options_.shard, options_.shards);
  } else if (const std::string differs = difference(theirs, store_->declaration());
             !differs.empty()) {
    throw UsageError(fmt::format("worker {}: this is another model: {}", message.worker, differs));
  }
  workers_.resize(static_cast<std::size_t>(consistency().workers));
  if (message.worker >= workers_.size()) {
    throw UsageError(fmt::format("worker {}: the servers have been told of {} workers, 0 to {}",
                                 message.worker, workers_.size(), workers_.size() - 1));
  }
  if (!over_.empty()) throw CommError(over_);
  append(message);
  Worker& worker = workers_[message.worker];
  if (worker.life != message.life) {
    worker = {.life = message.life, .clock = clock_of_new(message.worker)};
    together_.erase(message.worker);
  }
  worker.presence = Presence::kHere;
  answers.answer(request, {.verb = Verb::kAnswer,
                           .worker = message.worker,
                           .life = store_->is_complete() ? 1U : 0U,
                           .sequence = message.sequence,
                           .clock = worker.clock});
  answer_ready(answers);
}

void Server::store_values(const Request& request, Answers& answers) {
  Worker& worker = workers_.of(request.message);
  // Sent again: what others have pushed since stays.
  if (request.message.sequence > worker.sequence) {
    for (const Part& part : request.message.parts) store_->check_values(part);
    check_memory();
    for (const Part& part : request.message.parts) store_->make_room(part);
    append(request.message);
    for (const Part& part : request.message.parts) store_->write(part);
    worker.sequence = request.message.sequence;
  }
  answers.answer(request, {.verb = Verb::kAnswer,
                           .worker = request.message.worker,
                           .sequence = request.message.sequence,
                           .clock = version_});
  answer_ready(answers);
}

void Server::push(Request request, Answers& answers) {
  const Message& message = request.message;
  Worker& worker = workers_.of(message);
  if (message.sequence <= worker.sequence) {
    // Sent again: if it waits still, its answer goes to where it came from now.
    if (const auto waits = together_.find(message.worker);
        waits != together_.end() && waits->second.message.sequence == message.sequence) {
      // What came first has been checked and counts.
      waits->second.from = request.from;
      return;
    }
    return pull(std::move(request), answers);
  }
  if (!store_->is_complete()) {
    throw UsageError(
        fmt::format("worker {}: pushes before anybody has stored the parameters to begin with",
                    message.worker));
  }
  if (!over_.empty()) throw CommError(over_);
  const bool averaged = !is_synchronous() || consistency().backup_workers > 0;
  const auto rows = averaged
                        ? std::size_t{1}
                        : tree_of(consistency()).nodes_of(static_cast<int>(message.worker)).size();
  store_->check_gradients(message, static_cast<std::int64_t>(rows));
  const Message entry = journal_ == nullptr ? Message() : message;  // encoded still
  decode_gradients(request);
  check_wanted(message);
  check_memory();
  if (is_held(message)) {
    std::erase_if(hold_->pushes,
                  [&](const Request& r) { return r.message.worker == message.worker; });
    hold_->pushes.push_back(std::move(request));
    return;
  }
  const Message* const one = &message;
  // What there is no memory for is refused, here and, never having heard of it, by the backup.
  if (!is_synchronous()) store_->prepare({&one, 1}, nullptr);
  append(entry);
  worker.sequence = message.sequence;
  if (is_synchronous()) return push_together(std::move(request), answers);
  store_->update();
  ++version_;
  ++worker.clock;
  answer_ready(answers);
  pull(std::move(request), answers);
}

// Before anything is applied: a payload that is none refuses the whole push.
void Server::decode_gradients(Request& request) const {
  struct Memory {
    std::shared_ptr<const void> request;
    std::vector<std::unique_ptr<std::byte[]>> gradients;
  };
  std::shared_ptr<Memory> memory;
  for (Part& part : request.message.parts) {
    if (part.form != Form::kEncoded) continue;
    if (!memory) memory = std::make_shared<Memory>(Memory{request.memory, {}});
    memory->gradients.push_back(store_->decoded(part));
    part.form = Form::kGradient;
    part.payload = {memory->gradients.back().get(), store_->decoded_bytes(part)};
  }
  if (memory) request.memory = memory;
}

void Server::push_together(Request request, Answers& answers) {
  // For a step that is over: it comes too late to count.
  if (request.message.clock < version_) return answer_with_values(request, answers);
  const std::uint32_t worker = request.message.worker;
  together_.insert_or_assign(worker, std::move(request));
  apply_complete_steps(answers);
}

int Server::needed() const {
  return consistency().workers - consistency().backup_workers;
}

void Server::apply_complete_steps(Answers& answers) {
  if (static_cast<int>(together_.size()) < needed()) {
    // So many have done their last step that this one will not come about.
    if (workers_.still_pushing() < needed()) answer_together(answers);
    return;
  }
  if (hold_ && version_ >= hold_->place.version) return;
  std::vector<const Message*> pushes;
  for (const auto& [worker, request] : together_) pushes.push_back(&request.message);
  const ReductionTree tree = consistency().backup_workers > 0
                                 ? tree_over(static_cast<int>(pushes.size()))
                                 : tree_of(consistency());
  store_->prepare(pushes, &tree);
  store_->update();
  ++version_;
  for (Worker& worker : workers_) worker.clock = version_;
  answer_together(answers);
  answer_ready(answers);
}

void Server::answer_together(Answers& answers) {
  const auto answered = std::move(together_);
  together_.clear();
  for (const auto& [worker, request] : answered) answer_with_values(request, answers);
}

void Server::pull(Request request, Answers& answers) {
  workers_.of(request.message);
  check_wanted(request.message);
  wait(std::move(request), answers);
}

// One at a time: what a worker asks for anew is what it gave up waiting for.
void Server::wait(Request request, Answers& answers) {
  const bool is_overtaken = std::ranges::any_of(waiting_, [&](const Request& r) {
    return r.message.worker == request.message.worker && r.message.life == request.message.life &&
           r.message.sequence > request.message.sequence;
  });
  if (is_overtaken) throw CommError("message: came after a later one of the same worker");
  // One at a time: what a worker asks for anew is what it gave up waiting for.
  std::erase_if(waiting_,
                [&](const Request& r) { return r.message.worker == request.message.worker; });
  waiting_.push_back(std::move(request));
  answer_ready(answers);
}

Place Server::place() const {
  Place place;
  if (is_synchronous()) {
    place.version = version_;
    return place;
  }
  for (const Worker& worker : workers_) place.workers.push_back({worker.life, worker.sequence});
  return place;
}

bool Server::is_held(const Message& push) const {
  if (!hold_ || is_synchronous() || push.worker >= hold_->place.workers.size()) return false;
  const Place::Worker& worker = hold_->place.workers[push.worker];
  return push.life != worker.life || push.sequence > worker.sequence;
}

// Text: nothing, stop where you are and say where that is; a place, go on until there and say so;
// "-", go on.
void Server::hold(Request request, Time now, Answers& answers) {
  const Message& message = request.message;
  if (!store_) throw UsageError("fetch: no worker has declared a model yet");
  if (hold_ && hold_->life != message.life) {
    throw CommError("fetch: another program fetches from these servers just now; try again");
  }
  if (message.text == "-") {
    if (!hold_) throw CommError("fetch: it took too long, and the servers have gone on; try again");
    go_on(now, answers);
  } else if (message.text.empty()) {
    append(message);
    // Again: what waits since the first time goes on waiting.
    if (!hold_) hold_ = Hold{};
    hold_->life = message.life;
    hold_->place = place();
    hold_->until = now + kLongestHold;
  } else {
    const Place target = parse_place(message.text);
    if (!hold_) throw CommError("fetch: it took too long, and the servers have gone on; try again");
    if (target.workers.size() != place().workers.size()) {
      throw UsageError(fmt::format("fetch: a place of {} workers is wanted, got {}",
                                   place().workers.size(), target.workers.size()));
    }
    append(message);
    hold_->place = target;
    hold_->asker = std::move(request);
    apply_complete_steps(answers);
    auto pushes = std::exchange(hold_->pushes, {});
    for (Request& push : pushes) handle(std::move(push), now, answers);
    return answer_holder(answers);
  }
  answers.answer(request, {.verb = Verb::kAnswer,
                           .worker = message.worker,
                           .sequence = message.sequence,
                           .clock = version_,
                           .text = to_json(place())});
}

void Server::answer_holder(Answers& answers) {
  if (!hold_ || !hold_->asker || !is_reached(hold_->place, place())) return;
  const Request asker = std::move(*std::exchange(hold_->asker, std::nullopt));
  answers.answer(asker, {.verb = Verb::kAnswer,
                         .worker = asker.message.worker,
                         .sequence = asker.message.sequence,
                         .clock = version_,
                         .text = to_json(place())});
}

void Server::go_on(Time now, Answers& answers) {
  Hold hold = std::move(*std::exchange(hold_, std::nullopt));
  append({.verb = Verb::kHold, .worker = kObserver, .life = hold.life, .text = "-"});
  if (hold.asker) {
    refuse(*hold.asker, kCommFault,
           "fetch: a push that other servers have applied has not come here; is its worker lost?",
           answers);
  }
  if (is_synchronous()) apply_complete_steps(answers);
  for (Request& push : hold.pushes) handle(std::move(push), now, answers);
}

bool Server::may_read(std::int64_t clock) const {
  if (!store_->is_complete()) return false;
  switch (consistency().mode) {
    case Consistency::Mode::kSynchronous:
      return version_ >= clock;
    case Consistency::Mode::kBounded:
      return workers_.slowest_clock() >= clock - consistency().staleness;
    case Consistency::Mode::kAsynchronous:
      return true;
  }
  return false;
}

bool Server::may_answer(const Message& message) const {
  if (message.verb == Verb::kSettle) return workers_.is_alone(message.worker);
  const bool asks = std::ranges::any_of(message.parts,
                                        [](const Part& part) { return !Store::is_gradient(part); });
  return !asks || may_read(is_synchronous() ? message.clock : workers_[message.worker].clock);
}

void Server::answer_ready(Answers& answers) {
  if (!store_) return;
  std::vector<Request> still;
  std::vector<Request> waiting = std::move(waiting_);
  waiting_.clear();
  for (Request& request : waiting) {
    if (may_answer(request.message)) {
      answer_with_values(request, answers);
    } else if (!over_.empty() && request.message.verb != Verb::kSettle) {
      refuse(request, kCommFault, over_, answers);
    } else {
      still.push_back(std::move(request));
    }
  }
  std::ranges::move(still, std::back_inserter(waiting_));
}

void Server::answer_with_values(const Request& request, Answers& answers) {
  if (request.from == kNobody) return;
  Message answer{.verb = Verb::kAnswer,
                 .worker = request.message.worker,
                 .life = static_cast<std::uint64_t>(version_),
                 .sequence = request.message.sequence,
                 .clock = request.message.worker < workers_.size()
                              ? workers_[request.message.worker].clock
                              : version_};
  for (std::size_t i = 0; i < request.message.parts.size(); ++i) {
    const Part& part = request.message.parts[i];
    if (Store::is_gradient(part)) continue;
    const std::span<std::byte> out = answers.place(request, i, store_->bytes_of(part));
    store_->read(part, out);
    Part given = part;
    given.payload = out;
    if (part.form == Form::kRange) {
      given.form = Form::kValues;
    } else if (part.form == Form::kKeys) {
      given.form = Form::kRowValues;
    } else {
      given.count = static_cast<std::int64_t>(out.size() / sizeof(std::uint64_t));
    }
    answer.parts.push_back(given);
  }
  answers.answer(request, answer);
}

void Server::fetch(const Request& request, Answers& answers) {
  if (!store_) throw UsageError("fetch: no worker has declared a model yet");
  check_wanted(request.message);
  if (request.message.parts.empty()) {  // what is there?
    return answers.answer(request, {.verb = Verb::kAnswer,
                                    .worker = request.message.worker,
                                    .sequence = request.message.sequence,
                                    .clock = version_,
                                    .text = to_json(store_->declaration())});
  }
  if (!store_->is_complete()) throw UsageError("fetch: nobody has stored any parameters yet");
  answer_with_values(request, answers);
}

void Server::settle(Request request, Answers& answers) {
  Worker& worker = workers_.of(request.message);
  check_wanted(request.message);
  append(request.message);
  worker.is_done = true;
  if (is_synchronous()) apply_complete_steps(answers);
  wait(std::move(request), answers);
}

void Server::save(const Request& request, Answers& answers) {
  if (options_.checkpoints.empty()) {
    throw UsageError("save: this server was not given a folder for checkpoints");
  }
  if (!store_ || !store_->is_complete()) throw UsageError("save: there are no parameters yet");
  const std::string file =
      checkpoint_file(options_.checkpoints, options_.shard, options_.shards).string();
  store_->save(file, version_);
  answers.answer(request, {.verb = Verb::kAnswer,
                           .worker = request.message.worker,
                           .sequence = request.message.sequence,
                           .clock = version_,
                           .text = file});
}

void Server::leave(const Request& request, Answers& answers) {
  Worker& worker = workers_.of(request.message);
  append(request.message);
  worker.presence = Presence::kLeft;
  if (is_synchronous() && consistency().backup_workers == 0 && over_.empty()) {
    over_ = fmt::format(
        "worker {} has left after step {}; in synchronous training all do the same steps",
        request.message.worker, version_);
    refuse_all(over_, answers);
  }
  if (is_synchronous()) apply_complete_steps(answers);
  answers.answer(request, {.verb = Verb::kAnswer,
                           .worker = request.message.worker,
                           .sequence = request.message.sequence,
                           .clock = version_});
  answer_ready(answers);
}

void Server::lose(std::uint32_t worker, std::string_view why, Answers& answers) {
  if (worker >= workers_.size() || workers_[worker].is_gone()) return;
  append({.verb = Verb::kLost, .worker = worker, .text = std::string(why)});
  workers_[worker].presence = Presence::kLost;
  workers_[worker].why_lost = why;
  std::erase_if(waiting_, [&](const Request& r) { return r.message.worker == worker; });
  if (hold_) {
    std::erase_if(hold_->pushes, [&](const Request& r) { return r.message.worker == worker; });
  }
  if (is_synchronous()) {
    if (workers_.lost() > consistency().backup_workers) {
      over_ = fmt::format("worker {} is lost: {}; synchronous training cannot go on without it",
                          worker, why);
      return refuse_all(over_, answers);
    }
  }
  answer_ready(answers);
}

void Server::refuse_all(const std::string& why, Answers& answers) {
  const auto together = std::move(together_);
  together_.clear();
  for (const auto& [worker, request] : together) refuse(request, kCommFault, why, answers);
  answer_ready(answers);
}

void Server::time_passed(Time now, Answers& answers) {
  if (hold_ && now > hold_->until) go_on(now, answers);
  if (options_.dead_after.count() == 0) return;
  for (std::uint32_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].presence != Presence::kHere || now - workers_[i].heard < options_.dead_after) {
      continue;
    }
    lose(i,
         fmt::format("not heard of for {:.1f} s",
                     std::chrono::duration<double>(now - workers_[i].heard).count()),
         answers);
  }
}

void Server::refuse(const Request& request, std::uint8_t fault, const std::string& why,
                    Answers& answers) const {
  answers.answer(request, refusal_of(request.message, fault, why));
}

// "worker 2, which has not joined", "worker 1, at step 7"
std::string Server::what_is_awaited() const {
  if (!store_) return "a worker that declares a model";
  if (!store_->is_complete()) return "a worker that stores the parameters to begin with";
  if (is_synchronous()) {
    for (std::uint32_t i = 0; i < workers_.size(); ++i) {
      if (together_.contains(i) || workers_[i].presence == Presence::kLeft) continue;
      return workers_[i].presence == Presence::kAwaited
                 ? fmt::format("worker {}, which has not joined", i)
                 : fmt::format("worker {}, which has not pushed step {}", i, version_ + 1);
    }
    return "";
  }
  const std::int64_t slowest = workers_.slowest_clock();
  for (std::uint32_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].clock != slowest || workers_[i].presence == Presence::kLeft) continue;
    return workers_[i].presence == Presence::kAwaited
               ? fmt::format("worker {}, which has not joined", i)
               : fmt::format("worker {}, which has done {} steps", i, slowest);
  }
  return "";
}

}  // namespace trireme::server
