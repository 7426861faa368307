#include "trireme/server/client.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <optional>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/base/text.h"
#include "trireme/server/cut.h"

namespace trireme::server {

namespace {

constexpr std::int64_t kKeysAtATime = 1 << 20;

std::uint64_t new_life() {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return mix_bits(static_cast<std::uint64_t>(now) ^
                  (static_cast<std::uint64_t>(::getpid()) << 40)) |
         1;
}

std::span<const std::byte> bytes_of(const Buffer& buffer) {
  return {static_cast<const std::byte*>(buffer.data), buffer.bytes()};
}

std::span<std::byte> writable(const Buffer& buffer) {
  return {static_cast<std::byte*>(buffer.data), buffer.bytes()};
}

[[noreturn]] void throw_refusal(const Link& link, const Message& refusal) {
  if (refusal.clock == kUsageFault) throw UsageError(refusal.text);
  if (refusal.clock == kDataFault) {
    throw DataError(fmt::format("{}: {}", link.name(), refusal.text));
  }
  throw CommError("parameter server: " + refusal.text);
}

}  // namespace

// One call: a message for each server, the memory that its payloads need, and what is to be done
// with the answers.
struct Client::Exchange {
  explicit Exchange(int shards, Verb verb) : messages(shards), wanted(shards) {
    for (Message& message : messages) message.verb = verb;
  }

  std::byte* memory(std::size_t bytes) {
    owned.push_back(std::make_unique<std::uint64_t[]>((bytes + 7) / 8));
    return reinterpret_cast<std::byte*>(owned.back().get());
  }

  struct Scatter {  // rows of one server's answer to their places
    const std::byte* from;
    std::vector<std::byte*> to;
    std::size_t row_bytes;
  };

  std::vector<Message> messages;
  std::vector<std::vector<std::span<std::byte>>> wanted;
  std::vector<std::unique_ptr<std::uint64_t[]>> owned;
  std::vector<Scatter> scatters;
  std::vector<Message> answers;
};

Client::Client(std::vector<std::unique_ptr<Link>> links, Options options)
    : links_(std::move(links)), options_(options), life_(new_life()) {}

Client::~Client() {
  if (!joined_ || std::uncaught_exceptions() > 0) return;
  try {
    leave();
  } catch (const Error&) {
    // The servers are gone, and with them whoever could wait for this worker.
  }
}

std::uint32_t Client::table_of(std::string_view name, const char* call) const {
  std::uint32_t table = 0;
  for (const DenseTable& dense : declaration_.dense) {
    if (dense.name == name) return table;
    ++table;
  }
  for (const SparseTable& sparse : declaration_.sparse) {
    if (sparse.name == name) return table;
    ++table;
  }
  std::vector<std::string> names;
  for (const DenseTable& dense : declaration_.dense) names.push_back(dense.name);
  for (const SparseTable& sparse : declaration_.sparse) names.push_back(sparse.name);
  const std::string meant = nearest(std::string(name), names);
  throw UsageError(fmt::format("{}: the declaration has no table \"{}\"{}", call, name,
                               meant.empty() ? "" : fmt::format("; did you mean \"{}\"?", meant)));
}

void Client::join(const Declaration& declaration) {
  check(declaration);
  declaration_ = declaration;
  Exchange exchange(shards(), Verb::kJoin);
  for (int shard = 0; shard < shards(); ++shard) {
    exchange.messages[shard].text = to_json(declaration);
    exchange.messages[shard].parts.push_back({.first = shard, .count = shards()});
  }
  run("join", exchange);
  joined_ = true;
  have_values_ =
      std::ranges::all_of(exchange.answers, [](const Message& answer) { return answer.life == 1; });
}

void Client::add_gradients(std::span<const Gradient> gradients, Exchange& exchange) const {
  for (const Gradient& gradient : gradients) {
    const std::uint32_t table = table_of(gradient.table, "push");
    const std::size_t dense = declaration_.dense.size();
    if (table < dense) {
      const std::int64_t count = declaration_.dense[table].count;
      const std::int64_t rows = count > 0 ? gradient.values.count / count : 1;
      if (rows * count != gradient.values.count ||
          gradient.values.dtype != declaration_.dense[table].dtype) {
        throw UsageError(fmt::format("push: {} wants rows of {}[{}], got {}[{}]", gradient.table,
                                     name_of(declaration_.dense[table].dtype), count,
                                     name_of(gradient.values.dtype), gradient.values.count));
      }
      for (int shard = 0; shard < shards(); ++shard) {
        const Range range = range_of(count, table, shard, shards());
        Part part{.table = table,
                  .form = Form::kGradient,
                  .empty = gradient.empty,
                  .first = range.begin,
                  .count = range.size()};
        if (!gradient.compressors.empty() && range.size() > 0) {
          Compressor& compressor = gradient.compressors[static_cast<std::size_t>(shard)];
          std::byte* const payload = exchange.memory(compressor.bytes());
          part.form = Form::kEncoded;
          part.payload = {payload, compressor.bytes()};
          compressor.encode(gradient.values.slice(range.begin, range.size()), clock_,
                            {payload, compressor.bytes()});
        } else if (rows == 1 || range.size() == count) {
          part.payload = bytes_of(gradient.values.slice(range.begin, rows * range.size()));
        } else {
          const Buffer first = gradient.values.slice(range.begin, range.size());
          std::byte* const copy = exchange.memory(static_cast<std::size_t>(rows) * first.bytes());
          for (std::int64_t row = 0; row < rows; ++row) {
            const Buffer slice = gradient.values.slice(row * count + range.begin, range.size());
            std::memcpy(copy + static_cast<std::size_t>(row) * first.bytes(), slice.data,
                        first.bytes());
          }
          part.payload = {copy, static_cast<std::size_t>(rows) * first.bytes()};
        }
        exchange.messages[shard].parts.push_back(part);
      }
      continue;
    }
    const SparseTable& sparse = declaration_.sparse[table - dense];
    const auto keys = static_cast<std::int64_t>(gradient.keys.size());
    if (gradient.values.dtype != DType::kF32 || gradient.values.count != keys * sparse.width) {
      throw UsageError(fmt::format("push: {} wants f32[{}, {}] for {} keys, got {}[{}]",
                                   gradient.table, keys, sparse.width, keys,
                                   name_of(gradient.values.dtype), gradient.values.count));
    }
    const std::size_t row_bytes = static_cast<std::size_t>(sparse.width) * sizeof(float);
    std::vector<std::int64_t> counts(shards());
    for (const std::uint64_t key : gradient.keys) ++counts[shard_of(key, shards())];
    std::vector<std::uint64_t*> next_key;
    std::vector<std::byte*> next_row;
    for (int shard = 0; shard < shards(); ++shard) {
      const auto count = static_cast<std::size_t>(counts[shard]);
      const std::size_t bytes = count * (sizeof(std::uint64_t) + row_bytes);
      std::byte* const memory = exchange.memory(bytes);
      next_key.push_back(reinterpret_cast<std::uint64_t*>(memory));
      next_row.push_back(memory + count * sizeof(std::uint64_t));
      exchange.messages[shard].parts.push_back({.table = table,
                                                .form = Form::kRowGradients,
                                                .count = counts[shard],
                                                .payload = {memory, bytes}});
    }
    const auto* row = static_cast<const std::byte*>(gradient.values.data);
    for (const std::uint64_t key : gradient.keys) {
      const int shard = shard_of(key, shards());
      *next_key[shard]++ = key;
      std::memcpy(next_row[shard], row, row_bytes);
      next_row[shard] += row_bytes;
      row += row_bytes;
    }
  }
}

// `brings`: the values are sent, not asked for.
void Client::add_wanted(std::span<const Wanted> wanted, bool brings, Exchange& exchange) const {
  const char* const call = brings ? "store" : "pull";
  for (const Wanted& one : wanted) {
    const std::uint32_t table = table_of(one.table, call);
    const std::size_t dense = declaration_.dense.size();
    if (table < dense) {
      const DenseTable& declared = declaration_.dense[table];
      if (one.out.count != declared.count || one.out.dtype != declared.dtype) {
        throw UsageError(fmt::format("{}: {} is {}[{}], got {}[{}]", call, one.table,
                                     name_of(declared.dtype), declared.count,
                                     name_of(one.out.dtype), one.out.count));
      }
      for (int shard = 0; shard < shards(); ++shard) {
        const Range range = range_of(declared.count, table, shard, shards());
        const Buffer slice = one.out.slice(range.begin, range.size());
        Part part{.table = table,
                  .form = brings ? Form::kValues : Form::kRange,
                  .slot = one.slot,
                  .first = range.begin,
                  .count = range.size()};
        if (brings) {
          part.payload = bytes_of(slice);
        } else {
          exchange.wanted[shard].push_back(writable(slice));
        }
        exchange.messages[shard].parts.push_back(part);
      }
      continue;
    }
    const SparseTable& sparse = declaration_.sparse[table - dense];
    const auto keys = static_cast<std::int64_t>(one.keys.size());
    if (one.out.dtype != DType::kF32 || one.out.count != keys * sparse.width) {
      throw UsageError(fmt::format("{}: {} wants f32[{}, {}] for {} keys, got {}[{}]", call,
                                   one.table, keys, sparse.width, keys, name_of(one.out.dtype),
                                   one.out.count));
    }
    const std::size_t row_bytes = static_cast<std::size_t>(sparse.width) * sizeof(float);
    std::vector<std::vector<std::byte*>> places(shards());
    std::vector<std::vector<std::uint64_t>> keys_of(shards());
    auto* row = static_cast<std::byte*>(one.out.data);
    for (const std::uint64_t key : one.keys) {
      const int shard = shard_of(key, shards());
      keys_of[shard].push_back(key);
      places[shard].push_back(row);
      row += row_bytes;
    }
    for (int shard = 0; shard < shards(); ++shard) {
      const std::size_t count = keys_of[shard].size();
      const std::size_t key_bytes = count * sizeof(std::uint64_t);
      std::byte* const memory =
          exchange.memory(key_bytes + (brings || shards() > 1 ? count * row_bytes : 0));
      if (count > 0) std::memcpy(memory, keys_of[shard].data(), key_bytes);
      Part part{.table = table,
                .form = brings ? Form::kRowValues : Form::kKeys,
                .slot = one.slot,
                .count = static_cast<std::int64_t>(count),
                .payload = {memory, key_bytes}};
      if (brings) {
        for (std::size_t i = 0; i < count; ++i) {
          std::memcpy(memory + key_bytes + i * row_bytes, places[shard][i], row_bytes);
        }
        part.payload = {memory, key_bytes + count * row_bytes};
      } else if (shards() == 1) {
        exchange.wanted[shard].push_back(writable(one.out));
      } else {
        exchange.wanted[shard].push_back({memory + key_bytes, count * row_bytes});
        exchange.scatters.push_back({memory + key_bytes, std::move(places[shard]), row_bytes});
      }
      exchange.messages[shard].parts.push_back(part);
    }
  }
}

void Client::run(const char* call, Exchange& exchange) {
  if (has_left_) {
    throw UsageError(fmt::format("{}: worker {} has left the servers", call, options_.worker));
  }
  ++sequence_;
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  for (std::size_t shard = 0; shard < links_.size(); ++shard) {
    Message& message = exchange.messages[shard];
    const bool looks = message.verb == Verb::kFetch || message.verb == Verb::kHold;
    message.worker = looks && !joined_ ? kObserver : static_cast<std::uint32_t>(options_.worker);
    message.life = life_;
    message.sequence = sequence_;
    message.clock = clock_;
    links_[shard]->send(message, exchange.wanted[shard]);
  }
  // All answers are taken, also those behind a refusal: the links are free then.
  std::optional<std::size_t> refused;
  for (std::size_t shard = 0; shard < links_.size(); ++shard) {
    exchange.answers.push_back(answer_of(call, shard, deadline));
    if (exchange.answers.back().verb == Verb::kRefusal && !refused) refused = shard;
  }
  if (refused) throw_refusal(*links_[*refused], exchange.answers[*refused]);
  for (const Exchange::Scatter& scatter : exchange.scatters) {
    const std::byte* from = scatter.from;
    for (std::byte* const to : scatter.to) {
      std::memcpy(to, from, scatter.row_bytes);
      from += scatter.row_bytes;
    }
  }
  const Verb verb = exchange.messages.front().verb;
  if (verb != Verb::kJoin && verb != Verb::kPush && verb != Verb::kPull) return;
  clock_ = std::numeric_limits<std::int64_t>::max();
  for (const Message& answer : exchange.answers) clock_ = std::min(clock_, answer.clock);
}

Message Client::answer_of(const char* call, std::size_t shard, Link::Deadline deadline) {
  Link& link = *links_[shard];
  try {
    Message answer = link.answer(deadline);
    if (answer.sequence != sequence_ ||
        (answer.verb != Verb::kAnswer && answer.verb != Verb::kRefusal)) {
      throw DataError(fmt::format("{}: answered something else than {}", link.name(), call));
    }
    return answer;
  } catch (const TimedOut&) {
    const std::string awaited = link.ask_what_is_awaited();
    throw CommError(fmt::format(
        "parameter server: {} did not answer {} of worker {} within {:.3g} s{}", link.name(), call,
        options_.worker, std::chrono::duration<double>(options_.timeout).count(),
        awaited.empty() ? "" : "; it waits for " + awaited));
  }
}

void Client::store(std::span<const Wanted> values) {
  Exchange exchange(shards(), Verb::kStore);
  add_wanted(values, true, exchange);
  run("store", exchange);
}

void Client::store_steps(std::span<const std::int64_t> steps) {
  Exchange exchange(shards(), Verb::kStore);
  for (std::uint32_t table = 0; table < steps.size(); ++table) {
    for (int shard = 0; shard < shards(); ++shard) {
      const Range range = range_of(declaration_.dense[table].count, table, shard, shards());
      exchange.messages[shard].parts.push_back({.table = table,
                                                .form = Form::kValues,
                                                .slot = kStepSlot,
                                                .first = range.begin,
                                                .payload = std::as_bytes(steps.subspan(table, 1))});
    }
  }
  run("store", exchange);
}

void Client::fetch_steps(std::span<std::int64_t> steps) {
  Exchange exchange(shards(), Verb::kFetch);
  for (std::uint32_t table = 0; table < steps.size(); ++table) {
    for (int shard = 0; shard < shards(); ++shard) {
      // Of several servers any that holds a part has them all counted; the others say 0.
      const Range range = range_of(declaration_.dense[table].count, table, shard, shards());
      exchange.messages[shard].parts.push_back(
          {.table = table, .slot = kStepSlot, .first = range.begin});
      auto* const out = reinterpret_cast<std::int64_t*>(exchange.memory(sizeof(std::int64_t)));
      exchange.wanted[shard].push_back(std::as_writable_bytes(std::span(out, 1)));
    }
  }
  run("fetch", exchange);
  for (std::size_t table = 0; table < steps.size(); ++table) {
    steps[table] = 0;
    for (int shard = 0; shard < shards(); ++shard) {
      std::int64_t one = 0;
      std::memcpy(&one, exchange.wanted[shard][table].data(), sizeof one);
      steps[table] = std::max(steps[table], one);
    }
  }
}

void Client::push(std::span<const Gradient> gradients, PushOptions options) {
  push_pull(gradients, options, {});
}

void Client::pull(std::span<const Wanted> wanted) {
  Exchange exchange(shards(), Verb::kPull);
  add_wanted(wanted, false, exchange);
  run("pull", exchange);
}

void Client::push_pull(std::span<const Gradient> gradients, PushOptions options,
                       std::span<const Wanted> wanted) {
  Exchange exchange(shards(), Verb::kPush);
  for (Message& message : exchange.messages) {
    message.lr = options.lr;
    message.scale = options.scale;
  }
  add_gradients(gradients, exchange);
  add_wanted(wanted, false, exchange);
  run(wanted.empty() ? "push" : "push_pull", exchange);
}

std::int64_t Client::fetch(std::span<const Wanted> wanted) {
  Exchange exchange(shards(), Verb::kFetch);
  add_wanted(wanted, false, exchange);
  run("fetch", exchange);
  std::int64_t version = std::numeric_limits<std::int64_t>::max();
  for (const Message& answer : exchange.answers) {
    version = std::min(version, static_cast<std::int64_t>(answer.life));
  }
  return version;
}

const Declaration& Client::observe() {
  declaration_ = fetch_declaration(*links_.front(), options_.timeout);
  return declaration_;
}

std::vector<Message> Client::hold_at(const std::string& place) {
  Exchange exchange(shards(), Verb::kHold);
  for (Message& message : exchange.messages) message.text = place;
  run("fetch", exchange);
  return std::move(exchange.answers);
}

void Client::hold() {
  std::vector<Place> places;
  for (const Message& answer : hold_at("")) places.push_back(parse_place(answer.text));
  hold_at(to_json(meeting_place(places)));
}

void Client::go_on() {
  hold_at("-");
}

std::int64_t Client::fetch_cut(std::span<const Wanted> wanted) {
  hold();
  const std::int64_t version = fetch(wanted);
  go_on();
  return version;
}

std::vector<std::uint64_t> Client::fetch_keys(std::string_view name) {
  const std::uint32_t table = table_of(name, "fetch_keys");
  std::vector<std::uint64_t> keys;
  std::vector<std::int64_t> first(links_.size());
  for (bool more = true; more;) {
    more = false;
    Exchange exchange(shards(), Verb::kFetch);
    for (int shard = 0; shard < shards(); ++shard) {
      exchange.messages[shard].parts.push_back(
          {.table = table, .form = Form::kAllKeys, .first = first[shard], .count = kKeysAtATime});
      const std::size_t bytes = kKeysAtATime * sizeof(std::uint64_t);
      exchange.wanted[shard].push_back({exchange.memory(bytes), bytes});
    }
    run("fetch_keys", exchange);
    for (int shard = 0; shard < shards(); ++shard) {
      const std::int64_t count = exchange.answers[shard].parts.at(0).count;
      const auto* got =
          reinterpret_cast<const std::uint64_t*>(exchange.wanted[shard].front().data());
      keys.insert(keys.end(), got, got + count);
      first[shard] += count;
      more = more || count == kKeysAtATime;
    }
  }
  return keys;
}

void Client::save() {
  // Each goes on as soon as it has written.
  if (shards() > 1) hold();
  Exchange exchange(shards(), Verb::kSave);
  run("save", exchange);
}

void Client::settle() {
  Exchange exchange(shards(), Verb::kSettle);
  run("settle", exchange);
}

void Client::leave() {
  if (!joined_) return;
  joined_ = false;
  Exchange exchange(shards(), Verb::kLeave);
  run("leave", exchange);
  has_left_ = true;
}

std::byte* Client::allocate(std::size_t bytes) {
  return links_.front()->allocate(bytes);
}

Traffic Client::traffic() const {
  Traffic all;
  for (const auto& link : links_) all += link->traffic();
  return all;
}

Declaration fetch_declaration(Link& link, std::chrono::milliseconds timeout) {
  link.send({.verb = Verb::kFetch, .worker = kObserver, .life = 1, .sequence = 1}, {});
  try {
    const Message answer = link.answer(std::chrono::steady_clock::now() + timeout);
    if (answer.verb == Verb::kRefusal) throw_refusal(link, answer);
    return parse_declaration(answer.text);
  } catch (const TimedOut&) {
    throw CommError(fmt::format("parameter server: {} did not answer within {:.3g} s", link.name(),
                                std::chrono::duration<double>(timeout).count()));
  }
}

}  // namespace trireme::server
