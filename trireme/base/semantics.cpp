#include "trireme/base/semantics.h"

#include <array>

namespace trireme {

namespace {

using enum Semantics::Ranks;

// In the order of OpKind.
constexpr std::array kTable = {
    Semantics{.name = "all_reduce", .givers = kAll, .getters = kAll, .sums = true},
    Semantics{
        .name = "reduce_scatter", .givers = kAll, .getters = kAll, .in_pieces = true, .sums = true},
    Semantics{.name = "all_gather", .givers = kAll, .getters = kAll, .out_pieces = true},
    Semantics{.name = "all_to_all",
              .givers = kAll,
              .getters = kAll,
              .in_pieces = true,
              .out_pieces = true},
    Semantics{.name = "broadcast", .givers = kRoot, .getters = kAll},
    Semantics{.name = "reduce", .givers = kAll, .getters = kRoot, .sums = true},
    Semantics{.name = "gather", .givers = kAll, .getters = kRoot, .out_pieces = true},
    Semantics{.name = "scatter", .givers = kRoot, .getters = kAll, .in_pieces = true},
    Semantics{.name = "send", .is_message = true},
    Semantics{.name = "recv", .is_message = true},
    Semantics{.name = "barrier"},
    // Each rank tells all others a few bytes.
    Semantics{.name = "allocate", .givers = kAll, .getters = kAll, .out_pieces = true},
    Semantics{.name = "split", .givers = kAll, .getters = kAll, .out_pieces = true},
};
static_assert(kTable.size() == static_cast<std::size_t>(OpKind::kSplit) + 1);

}  // namespace

const Semantics& semantics_of(OpKind kind) {
  return kTable[static_cast<std::size_t>(kind)];
}

std::string_view name_of(OpKind kind) {
  return semantics_of(kind).name;
}

}  // namespace trireme
