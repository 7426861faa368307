#include "trireme/comm/operation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"

namespace trireme {

namespace {

// "sum", "sum / 12".
std::string reduction_of(const Call& call) {
  std::string text(name_of(call.op));
  if (call.divisor != 1) text += fmt::format(" / {}", call.divisor);
  return text;
}

}  // namespace

std::string describe(const Call& call) {
  const Semantics& semantics = semantics_of(call.kind);
  if (call.kind == OpKind::kBarrier || call.kind == OpKind::kAllocate ||
      call.kind == OpKind::kSplit) {
    return fmt::format("{}()", semantics.name);
  }
  std::string arguments = fmt::format("{}[{}]", name_of(call.dtype), call.count);
  if (call.device != DeviceKind::kCpu) arguments += fmt::format(" on {}", name_of(call.device));
  if (has_own_counts(call)) {
    arguments += " in pieces of different sizes";
  } else if (call.uneven) {
    arguments += fmt::format(" at most, pieces {:08x}", call.layout);
  }
  if (semantics.sums) arguments += ", " + reduction_of(call);
  if (semantics.is_rooted()) arguments += fmt::format(", root {}", call.root);
  if (semantics.is_message) {
    arguments += fmt::format(", {} {}, tag {}", call.kind == OpKind::kSend ? "to" : "from",
                             call.root, call.tag);
  }
  if (call.virtual_workers > 0)
    arguments += fmt::format(", {} virtual workers", call.virtual_workers);
  return fmt::format("{}({})", semantics.name, arguments);
}

CallSite::CallSite(SourceLocation where) : line(where.line) {
  std::string_view name = where.file;
  if (const auto slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
  if (name.size() >= sizeof(file)) name.remove_prefix(name.size() - sizeof(file) + 1);
  std::memcpy(file, name.data(), name.size());
  if (where.caller != nullptr) std::strncpy(caller, where.caller, sizeof(caller) - 1);
}

std::string describe(const Call& call, const CallSite& site) {
  if (site.line == 0) return describe(call);
  // The site of another rank's call has come over a network.
  const auto text_of = [](std::span<const char> text) {
    return without_control_characters({text.data(), ::strnlen(text.data(), text.size())});
  };
  const std::string caller = text_of(site.caller);
  return fmt::format("{}{} at {}:{}", describe(call),
                     caller.empty() ? "" : fmt::format(" in {}()", caller), text_of(site.file),
                     site.line);
}

namespace {

bool agree(Call a, Call b) {
  if (has_own_counts(a) && has_own_counts(b)) {
    a.count = b.count = 0;
    a.layout = b.layout = 0;
  }
  return a == b;
}

[[noreturn]] void throw_mismatch(const CallOfRank& first, const CallOfRank& other,
                                 std::string_view rule, std::uint64_t number) {
  throw UsageError(
      fmt::format("{} mismatch: rank {} called {}, rank {} called {}: {} (operation {})",
                  name_of(first.call.kind), first.rank, describe(first.call, first.site),
                  other.rank, describe(other.call, other.site), rule, number));
}

}  // namespace

void require_agreement(std::span<const CallOfRank> calls, std::uint64_t number) {
  std::uint32_t balance = 0;
  for (const CallOfRank& call : calls) {
    balance += call.call.layout;
    if (agree(calls[0].call, call.call)) continue;
    const bool same_text = describe(calls[0].call) == describe(call.call);
    throw_mismatch(calls[0], call,
                   same_text ? "all ranks must give each rank the same virtual workers"
                             : "all ranks must make the same calls in the same order",
                   number);
  }
  if (!has_own_counts(calls[0].call) || balance == 0) return;
  throw_mismatch(calls[0], calls.back(),
                 "every rank must expect as many elements from each rank as that rank sends to it",
                 number);
}

}  // namespace trireme
