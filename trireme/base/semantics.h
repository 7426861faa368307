#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace trireme {

enum class OpKind : std::uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kAllToAll,
  kBroadcast,
  kReduce,
  kGather,
  kScatter,
  kSend,
  kRecv,
  kBarrier,
  kAllocate,
  kSplit,
};

/// What a kind of operation means: one table, which backends, counters, cost formulas and checks
/// read.
///
/// Data goes from every rank that gives to every rank that gets. A rank's `in` is either one whole,
/// of which all that get receive the same, or has a piece for each rank; `out` is either one whole
/// or has a piece of each rank.
struct Semantics {
  enum class Ranks : std::uint8_t { kNone, kRoot, kAll };

  std::string_view name;
  Ranks givers = Ranks::kNone;
  Ranks getters = Ranks::kNone;
  bool in_pieces = false;
  bool out_pieces = false;
  bool sums = false;        ///< what comes from several ranks is reduced over a tree
  bool is_message = false;  ///< between two ranks; `root` is the other one

  bool is_rooted() const { return givers == Ranks::kRoot || getters == Ranks::kRoot; }
  /// Does every rank sum a slice of one row and hand it out (all_reduce, reduce)?
  bool sums_slices() const { return sums && !in_pieces; }
  /// Does every rank get all that is given (all_gather, broadcast)?
  bool spreads() const { return getters == Ranks::kAll && !in_pieces && !sums; }

  bool gives(int rank, int root) const { return is_among(givers, rank, root); }
  bool gets(int rank, int root) const { return is_among(getters, rank, root); }

 private:
  static bool is_among(Ranks ranks, int rank, int root) {
    return ranks == Ranks::kAll || (ranks == Ranks::kRoot && rank == root);
  }
};

/// In the order of OpKind.
inline constexpr std::array kSemantics = {
    Semantics{.name = "all_reduce",
              .givers = Semantics::Ranks::kAll,
              .getters = Semantics::Ranks::kAll,
              .sums = true},
    Semantics{.name = "reduce_scatter",
              .givers = Semantics::Ranks::kAll,
              .getters = Semantics::Ranks::kAll,
              .in_pieces = true,
              .sums = true},
    Semantics{.name = "all_gather",
              .givers = Semantics::Ranks::kAll,
              .getters = Semantics::Ranks::kAll,
              .out_pieces = true},
    Semantics{.name = "all_to_all",
              .givers = Semantics::Ranks::kAll,
              .getters = Semantics::Ranks::kAll,
              .in_pieces = true,
              .out_pieces = true},
    Semantics{
        .name = "broadcast", .givers = Semantics::Ranks::kRoot, .getters = Semantics::Ranks::kAll},
    Semantics{.name = "reduce",
              .givers = Semantics::Ranks::kAll,
              .getters = Semantics::Ranks::kRoot,
              .sums = true},
    Semantics{.name = "gather",
              .givers = Semantics::Ranks::kAll,
              .getters = Semantics::Ranks::kRoot,
              .out_pieces = true},
    Semantics{.name = "scatter",
              .givers = Semantics::Ranks::kRoot,
              .getters = Semantics::Ranks::kAll,
              .in_pieces = true},
    Semantics{.name = "send", .is_message = true},
    Semantics{.name = "recv", .is_message = true},
    Semantics{.name = "barrier"},
    // Each rank tells all others a few bytes.
    Semantics{.name = "allocate",
              .givers = Semantics::Ranks::kAll,
              .getters = Semantics::Ranks::kAll,
              .out_pieces = true},
    Semantics{.name = "split",
              .givers = Semantics::Ranks::kAll,
              .getters = Semantics::Ranks::kAll,
              .out_pieces = true},
};
static_assert(kSemantics.size() == static_cast<std::size_t>(OpKind::kSplit) + 1);

inline const Semantics& semantics_of(OpKind kind) {
  return kSemantics[static_cast<std::size_t>(kind)];
}

inline std::string_view name_of(OpKind kind) {
  return semantics_of(kind).name;
}

}  // namespace trireme
