#include "tests/parallel/faulty_ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace trireme::test {

namespace {

std::vector<std::int64_t> counts_of(const Operation& operation, std::vector<Range> Pieces::*side) {
  std::vector<std::int64_t> counts;
  if (!operation.pieces) return counts;
  for (const Range& range : (*operation.pieces).*side) counts.push_back(range.size());
  return counts;
}

std::string bytes_of(const Buffer& buffer) {
  return {static_cast<const char*>(buffer.data), buffer.bytes()};
}

void put(const Buffer& buffer, const std::string& bytes) {
  if (!bytes.empty()) std::memcpy(buffer.data, bytes.data(), bytes.size());
}

void multiply(const Buffer& x, double factor) {
  for (std::int64_t i = 0; i < x.count; ++i) {
    if (x.dtype == DType::kF64) x.as<double>()[i] *= factor;
    if (x.dtype == DType::kF32) x.as<float>()[i] *= static_cast<float>(factor);
    if (x.dtype == DType::kI64) x.as<std::int64_t>()[i] *= static_cast<std::int64_t>(factor);
  }
}

// What an operation leaves on this rank: of a reduction over a tree the first row.
Buffer result_of(const Operation& operation) {
  if (operation.kind == OpKind::kAllReduce) return operation.out.slice(0, operation.count);
  return operation.out;
}

class Faulty final : public Communicator {
 public:
  Faulty(Communicator& inner, Faults& faults)
      : Communicator(inner.rank(), inner.size()), inner_(inner), faults_(faults) {}
  Faulty(std::unique_ptr<Communicator> inner, Faults& faults)
      : Communicator(inner->rank(), inner->size()),
        owned_(std::move(inner)),
        inner_(*owned_),
        faults_(faults) {}

  std::string description() const override { return inner_.description(); }
  void check() override { inner_.check(); }
  void abort(std::exception_ptr error) override { inner_.abort(std::move(error)); }

 private:
  Work start(const Operation& operation) override {
    if (operation.kind == OpKind::kBarrier) {
      inner_.barrier(operation.where);
      return {};
    }
    const std::string name = fmt::format("{} of layout {}", describe(operation), operation.layout);
    const bool is_due = faults_.is_due(name, operation);
    const std::string before = is_due ? bytes_of(result_of(operation)) : "";
    call(operation).wait();
    if (is_due) faults_.spoil(operation, name, before);
    return {};
  }

  Work call(const Operation& o) {
    switch (o.kind) {
      case OpKind::kAllReduce:
        return o.op == ReduceOp::kSum ? inner_.all_reduce(o.out, *o.tree, o.divisor, o.where)
                                      : inner_.all_reduce(o.out, o.op, o.where);
      case OpKind::kReduceScatter:
        return inner_.reduce_scatter(o.out, o.in, *o.tree, o.divisor, counts_of(o, &Pieces::in),
                                     o.where);
      case OpKind::kAllGather:
        return o.uneven ? inner_.all_gather(o.out, o.in, counts_of(o, &Pieces::out), o.where)
                        : inner_.all_gather(o.out, o.in, o.where);
      case OpKind::kBroadcast:
        return inner_.broadcast(o.out, o.root, o.where);
      default:
        throw std::logic_error("a strategy makes no " + describe(o));
    }
  }

  Memory do_allocate(std::size_t bytes, SourceLocation where) override {
    return inner_.allocate(bytes, where);
  }
  std::unique_ptr<Communicator> do_split(int color, int key, SourceLocation where) override {
    auto part = inner_.split(color, key, where);
    return part ? std::make_unique<Faulty>(std::move(part), faults_) : nullptr;
  }

  std::unique_ptr<Communicator> owned_;
  Communicator& inner_;
  Faults& faults_;
};

}  // namespace

std::string name_of(Fault fault) {
  static const char* const kNames[] = {"none",    "dropped",    "doubled", "unscaled",
                                       "shifted", "not waited", "freed",   "of the last step"};
  return kNames[static_cast<int>(fault)];
}

std::vector<Fault> faults_of(const Call& call) {
  // What ranks agree on in attach(), before any step.
  if (!is_floating(call.dtype)) return {};
  switch (call.kind) {
    case OpKind::kAllReduce:
    case OpKind::kReduceScatter: {
      std::vector<Fault> faults = {Fault::kDropped, Fault::kDoubled, Fault::kNotWaited,
                                   Fault::kOfLastStep};
      // Of sums in f64, such as norms and counters, nothing is cut.
      if (call.dtype != DType::kF64) faults.push_back(Fault::kShifted);
      if (call.divisor != 1) faults.push_back(Fault::kUnscaled);
      return faults;
    }
    case OpKind::kAllGather:
      return {Fault::kDropped, Fault::kShifted, Fault::kNotWaited, Fault::kFreed,
              Fault::kOfLastStep};
    default:
      return {};
  }
}

bool Faults::is_due(const std::string& operation, const Call& call) {
  seen_.try_emplace(operation, call);
  return fault_ != Fault::kNone && operation == operation_;
}

void Faults::spoil(const Operation& operation, const std::string& name, std::string before) {
  const Buffer result = result_of(operation);
  const std::string right = bytes_of(result);
  const std::size_t size = size_of(result.dtype);
  switch (fault_) {
    case Fault::kNone:
      break;
    case Fault::kDropped:
      // Of a gather others' pieces stay as they were; of a sum half is missing.
      if (operation.kind == OpKind::kAllGather) {
        put(result, before);
        if (operation.pieces && operation.in.count > 0) {
          // This rank's own piece is there.
          const char* const own = static_cast<const char*>(operation.in.data);
          for (const Range& piece : operation.pieces->out) {
            if (piece.size() != operation.in.count) continue;
            const std::size_t at = static_cast<std::size_t>(piece.begin) * size;
            if (std::memcmp(right.data() + at, own, operation.in.bytes()) != 0) continue;
            std::memcpy(static_cast<char*>(result.data) + at, own, operation.in.bytes());
          }
        }
      } else {
        multiply(result, 0.5);
      }
      break;
    case Fault::kDoubled:
      multiply(result, 2);
      break;
    case Fault::kUnscaled:
      multiply(result, operation.divisor);
      break;
    case Fault::kShifted: {
      std::string shifted = right;
      if (shifted.size() > size) {
        std::rotate(shifted.begin(), shifted.begin() + static_cast<std::ptrdiff_t>(size),
                    shifted.end());
      }
      put(result, shifted);
      break;
    }
    case Fault::kNotWaited:
      put(result, before);
      break;
    case Fault::kFreed:
      put(result, std::string(right.size(), static_cast<char>(0xFF)));
      break;
    case Fault::kOfLastStep: {
      std::vector<std::string>& results = results_[name];
      results.push_back(right);
      // The value of the first time, always: that of some step before.
      put(result, results.front());
      break;
    }
  }
  has_changed_ = has_changed_ || bytes_of(result) != right;
}

std::unique_ptr<Communicator> faulty(Communicator& inner, Faults& faults) {
  return std::make_unique<Faulty>(inner, faults);
}

}  // namespace trireme::test
