#include "trireme/kernels/reduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "trireme/base/error.h"

// The code below is compiled once for each of these instruction sets; the best one that the machine
// has is chosen at run time.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/reduce.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "trireme/kernels/half-inl.h"

#ifndef TRIREME_REDUCE_JOB
#define TRIREME_REDUCE_JOB
namespace trireme {
namespace {

struct Job {
  std::span<void* const> outs;
  std::span<const void* const> terms;
  std::span<const int> merges;
  std::size_t count = 0;
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
  double divisor = 1;
  bool past_the_caches = false;
};

// ReductionTree pairs virtual workers as a binary counter does, whose digits are those of an int.
constexpr int kMaxDepth = 32;
constexpr std::size_t kTileBytes = 1024;

}  // namespace
}  // namespace trireme
#endif

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

// A type in memory, and the type in which it is computed.
template <class T>
struct Plain {
  using Stored = T;
  using Wide = T;
  static constexpr bool kCanStream = true;
  template <class D>
  static hn::Vec<D> load(D d, const T* p) {
    return hn::LoadU(d, p);
  }
  template <class D>
  static void store(D d, hn::Vec<D> v, T* p) {
    hn::StoreU(v, d, p);
  }
};

struct Bf16 {
  using Stored = std::uint16_t;
  using Wide = float;
  static constexpr bool kCanStream = false;
  template <class D>
  static hn::Vec<D> load(D d, const std::uint16_t* p) {
    return load_bf16(d, p);
  }
  template <class D>
  static void store(D d, hn::Vec<D> v, std::uint16_t* p) {
    store_bf16(d, v, p);
  }
};

struct F16 {
  using Stored = std::uint16_t;
  using Wide = float;
  static constexpr bool kCanStream = false;
  template <class D>
  static hn::Vec<D> load(D d, const std::uint16_t* p) {
    return load_f16(d, p);
  }
  template <class D>
  static void store(D d, hn::Vec<D> v, std::uint16_t* p) {
    store_f16(d, v, p);
  }
};

struct Sum {
  template <class D>
  static hn::Vec<D> of(D, hn::Vec<D> a, hn::Vec<D> b) {
    return hn::Add(a, b);
  }
};

// If one value is a NaN it is the result; of equal values (+0 and -0) the left one is. The
// instructions called min and max differ between machines in both cases, so they are not used.
struct Min {
  template <class D>
  static hn::Vec<D> of(D, hn::Vec<D> a, hn::Vec<D> b) {
    if constexpr (!hwy::IsFloat<hn::TFromD<D>>()) {
      return hn::Min(a, b);
    } else {
      return hn::IfThenElse(hn::Or(hn::Lt(b, a), hn::IsNaN(b)), b, a);
    }
  }
};

struct Max {
  template <class D>
  static hn::Vec<D> of(D, hn::Vec<D> a, hn::Vec<D> b) {
    if constexpr (!hwy::IsFloat<hn::TFromD<D>>()) {
      return hn::Max(a, b);
    } else {
      return hn::IfThenElse(hn::Or(hn::Gt(b, a), hn::IsNaN(b)), b, a);
    }
  }
};

// Divides and rounds sums, and stores them to every out.
template <class Type>
class Outs {
 public:
  using Stored = typename Type::Stored;
  using Wide = typename Type::Wide;

  explicit Outs(const Job& job)
      : outs_(job.outs),
        divisor_(static_cast<Wide>(job.divisor)),
        divides_(job.divisor != 1),
        streams_(Type::kCanStream && job.past_the_caches) {}

  template <class D>
  void store(D d, hn::Vec<D> v, std::size_t i) const {
    hn::Vec<D> one[] = {v};
    store(d, one, i);
  }

  /// Vectors one after another.
  template <class D, std::size_t kVectors>
  void store(D d, hn::Vec<D> (&v)[kVectors], std::size_t i) const {
    if constexpr (hwy::IsFloat<Wide>()) {
      if (divides_) {
        for (auto& vector : v) vector = hn::Div(vector, hn::Set(d, divisor_));
      }
    }
    const std::size_t lanes = hn::Lanes(d);
    if constexpr (Type::kCanStream) {
      // The tail is one lane, which an aligned store cannot write.
      if (streams_ && hn::MaxLanes(d) > 1) {
        for (void* out : outs_) {
          auto* const to = static_cast<Stored*>(out) + i;
          for (std::size_t k = 0; k < kVectors; ++k) hn::Stream(v[k], d, to + k * lanes);
        }
        return;
      }
    }
    for (void* out : outs_) {
      auto* const to = static_cast<Stored*>(out) + i;
      for (std::size_t k = 0; k < kVectors; ++k) Type::store(d, v[k], to + k * lanes);
    }
  }

 private:
  std::span<void* const> outs_;
  Wide divisor_;
  bool divides_;
  bool streams_;
};

// Sums by a stack program that is a constant, so that all values stay in registers. Several vectors
// at a time: what a step costs beside its vectors weighs as much as they do with AVX2.
template <class Type, class Op, int... kMerges>
struct InRegisters {
  static constexpr int kTerms = sizeof...(kMerges);
  using Terms = const typename Type::Stored* [kTerms];

  template <class D>
  static std::size_t run(D d, const Job& job, std::size_t i) {
    constexpr std::size_t kVectors = 4;
    const Outs<Type> outs(job);
    Terms terms;
    for (int t = 0; t < kTerms; ++t) {
      terms[t] = static_cast<const typename Type::Stored*>(job.terms[t]);
    }
    const std::size_t lanes = hn::Lanes(d);
    for (; i + kVectors * lanes <= job.count; i += kVectors * lanes) {
      hn::Vec<D> sums[kVectors];
      for (std::size_t k = 0; k < kVectors; ++k) sums[k] = sum(d, terms, i + k * lanes);
      outs.store(d, sums, i);
    }
    for (; i + lanes <= job.count; i += lanes) outs.store(d, sum(d, terms, i), i);
    return i;
  }

 private:
  template <class D>
  static HWY_INLINE hn::Vec<D> sum(D d, const Terms& terms, std::size_t i) {
    constexpr int kMergesOf[] = {kMerges...};
    hn::Vec<D> stack[kTerms];
    int depth = 0;
    for (int t = 0; t < kTerms; ++t) {
      stack[depth++] = Type::load(d, terms[t] + i);
      for (int m = 0; m < kMergesOf[t]; ++m) {
        --depth;
        stack[depth - 1] = Op::of(d, stack[depth - 1], stack[depth]);
      }
    }
    return stack[0];
  }
};

// Sums by any stack program, one tile at a time that fits the first-level cache.
template <class Type, class Op>
struct ByTiles {
  using Wide = typename Type::Wide;
  static constexpr std::size_t kTile = kTileBytes / sizeof(Wide);

  template <class D>
  static std::size_t run(D d, const Job& job, std::size_t i) {
    const std::size_t end = i + (job.count - i) / hn::Lanes(d) * hn::Lanes(d);
    const Outs<Type> outs(job);
    alignas(64) Wide stack[kMaxDepth][kTile];
    while (i < end) {
      const std::size_t n = std::min(kTile, end - i);
      evaluate(d, job, i, n, stack);
      for (std::size_t j = 0; j < n; j += hn::Lanes(d)) {
        outs.store(d, hn::LoadU(d, stack[0] + j), i + j);
      }
      i += n;
    }
    return i;
  }

 private:
  template <class D>
  static void evaluate(D d, const Job& job, std::size_t i, std::size_t n, Wide (*stack)[kTile]) {
    int depth = 0;
    for (std::size_t t = 0; t < job.terms.size(); ++t) {
      const auto* term = static_cast<const typename Type::Stored*>(job.terms[t]) + i;
      if (job.merges[t] == 0) {
        push(d, term, n, stack[depth++]);
        continue;
      }
      merge_term(d, stack[depth - 1], term, n);
      for (int m = 1; m < job.merges[t]; ++m) {
        --depth;
        merge(d, stack[depth - 1], stack[depth], n);
      }
    }
  }

  template <class D>
  static void push(D d, const typename Type::Stored* term, std::size_t n, Wide* top) {
    for (std::size_t j = 0; j < n; j += hn::Lanes(d)) {
      hn::StoreU(Type::load(d, term + j), d, top + j);
    }
  }

  template <class D>
  static void merge_term(D d, Wide* left, const typename Type::Stored* term, std::size_t n) {
    for (std::size_t j = 0; j < n; j += hn::Lanes(d)) {
      hn::StoreU(Op::of(d, hn::LoadU(d, left + j), Type::load(d, term + j)), d, left + j);
    }
  }

  template <class D>
  static void merge(D d, Wide* left, const Wide* right, std::size_t n) {
    for (std::size_t j = 0; j < n; j += hn::Lanes(d)) {
      hn::StoreU(Op::of(d, hn::LoadU(d, left + j), hn::LoadU(d, right + j)), d, left + j);
    }
  }
};

// Sums whole vectors, then the rest lane by lane. Operations are element-wise, so the bits are the
// same.
template <class Program, class Wide>
void run(const Job& job) {
  const std::size_t done = Program::run(hn::ScalableTag<Wide>(), job, 0);
  Program::run(hn::CappedTag<Wide, 1>(), job, done);
}

template <class Type, class Op>
void reduce_as(const Job& job) {
  using Wide = typename Type::Wide;
  int shape = 0;
  if (job.terms.size() <= 4) {
    for (const int merges : job.merges) shape = 10 * shape + merges;
    shape += 10000 * static_cast<int>(job.terms.size());
  }
  // Up to four terms have these nine trees.
  switch (shape) {
    case 10000:
      return run<InRegisters<Type, Op, 0>, Wide>(job);
    case 20001:
      return run<InRegisters<Type, Op, 0, 1>, Wide>(job);
    case 30011:
      return run<InRegisters<Type, Op, 0, 1, 1>, Wide>(job);
    case 30002:
      return run<InRegisters<Type, Op, 0, 0, 2>, Wide>(job);
    case 40102:
      return run<InRegisters<Type, Op, 0, 1, 0, 2>, Wide>(job);
    case 40111:
      return run<InRegisters<Type, Op, 0, 1, 1, 1>, Wide>(job);
    case 40021:
      return run<InRegisters<Type, Op, 0, 0, 2, 1>, Wide>(job);
    case 40012:
      return run<InRegisters<Type, Op, 0, 0, 1, 2>, Wide>(job);
    case 40003:
      return run<InRegisters<Type, Op, 0, 0, 0, 3>, Wide>(job);
    default:
      return run<ByTiles<Type, Op>, Wide>(job);
  }
}

template <class Type>
void reduce_type(const Job& job) {
  switch (job.op) {
    case ReduceOp::kSum:
    case ReduceOp::kMean:
      return reduce_as<Type, Sum>(job);
    case ReduceOp::kMin:
      return run<ByTiles<Type, Min>, typename Type::Wide>(job);
    case ReduceOp::kMax:
      return run<ByTiles<Type, Max>, typename Type::Wide>(job);
  }
}

void reduce(const Job& job) {
  switch (job.dtype) {
    case DType::kF32:
      return reduce_type<Plain<float>>(job);
    case DType::kF64:
      return reduce_type<Plain<double>>(job);
    case DType::kF16:
      return reduce_type<F16>(job);
    case DType::kBF16:
      return reduce_type<Bf16>(job);
    case DType::kI32:
      return reduce_type<Plain<std::int32_t>>(job);
    case DType::kI64:
      return reduce_type<Plain<std::int64_t>>(job);
    case DType::kU8:
      return reduce_type<Plain<std::uint8_t>>(job);
  }
}

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(reduce);

// Larger outs do not fit the last-level cache together with the terms.
constexpr std::size_t kStreamingBytes = std::size_t{4} << 20;

// Streaming stores avoid reading the lines of an out before they are written. The lines of an out
// that is also a term have been read anyway, and plain stores to them are faster.
bool can_stream(const Job& job) {
  return std::all_of(job.outs.begin(), job.outs.end(), [&](const void* out) {
    const bool is_term = std::find(job.terms.begin(), job.terms.end(), out) != job.terms.end();
    return !is_term && reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
  });
}

void carry_out(Job job) {
  const std::size_t bytes = job.outs.size() * job.count * size_of(job.dtype);
  job.past_the_caches = bytes >= kStreamingBytes && can_stream(job);
  HWY_DYNAMIC_DISPATCH(reduce)(job);
  // Only a fence orders streaming stores before later ones, such as the store of a "done" flag.
  if (job.past_the_caches) hwy::FlushStream();
}

}  // namespace

std::string_view name_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMean:
      return "mean";
    case ReduceOp::kMin:
      return "min";
    case ReduceOp::kMax:
      return "max";
  }
  return "?";
}

void require_divisor(std::string_view call, double divisor, DType dtype) {
  if (!std::isfinite(divisor) || divisor <= 0) {
    throw UsageError(fmt::format("{}: the divisor must be a finite number greater than 0, got {:g}",
                                 call, divisor));
  }
  if (divisor == 1 || is_floating(dtype)) return;
  throw UsageError(
      fmt::format("{}: a sum of {} cannot be divided by {:g}: only floating-point sums can; take "
                  "the sum and divide it",
                  call, name_of(dtype), divisor));
}

void tree_reduce(std::span<void* const> outs, std::span<const void* const> terms,
                 const ReductionTree& tree, std::int64_t count, DType dtype, ReduceOp op,
                 double divisor) {
  if (op == ReduceOp::kMean) {
    if (!is_floating(dtype)) {
      throw UsageError(
          fmt::format("reduce: a mean needs a floating type, got {}; take the sum and divide it",
                      name_of(dtype)));
    }
    if (divisor != 1) {
      throw UsageError(
          fmt::format("reduce: a mean has the number of terms as its divisor, got {:g} as well; "
                      "take the sum with that divisor",
                      divisor));
    }
    op = ReduceOp::kSum;
    divisor = tree.virtual_workers();
  }
  require_divisor("reduce", divisor, dtype);
  if (terms.size() != tree.terms().size()) {
    throw UsageError(
        fmt::format("reduce: the tree has {} terms, got {}", tree.terms().size(), terms.size()));
  }
  carry_out({outs, terms, tree.merges(), static_cast<std::size_t>(count), dtype, op, divisor});
}

void accumulate(Buffer into, const void* from) {
  static constexpr int kMerges[] = {0, 1};
  const void* const terms[] = {into.data, from};
  carry_out({std::span(&into.data, 1), terms, kMerges, static_cast<std::size_t>(into.count),
             into.dtype, ReduceOp::kSum});
}

}  // namespace trireme
#endif  // HWY_ONCE
