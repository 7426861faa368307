#include "trireme/world/tensor_collectives.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <numeric>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

/// Keeps tensors alive while their memory moves.
class TensorWork final : public Work::State {
 public:
  TensorWork(at::Tensor out, at::Tensor in, Work work)
      : out_(std::move(out)), in_(std::move(in)), work_(std::move(work)) {}

  bool test() override { return work_.test(); }
  void wait() override { work_.wait(); }
  void wait(StreamRef stream) override { work_.wait(stream); }

 private:
  at::Tensor out_;
  at::Tensor in_;
  Work work_;  // last: it uses the tensors
};

Work keep(const at::Tensor& out, const at::Tensor& in, Work work) {
  return Work(std::make_unique<TensorWork>(out, in, std::move(work)));
}

std::string text_of(at::IntArrayRef sizes) {
  return fmt::format("[{}]", fmt::join(sizes, ", "));
}

/// The tensors of one call, as the memory that moves.
class Tensors {
 public:
  Tensors(const Communicator& communicator, const char* call)
      : communicator_(communicator), call_(call) {}

  Buffer memory_of(const char* what, const at::Tensor& tensor) const {
    if (!tensor.defined()) refuse(what, "must be a tensor, got an undefined one");
    if (tensor.layout() != at::kStrided || tensor.is_quantized()) {
      refuse(what, "must be a dense tensor, got {}; pass {}.{}", kind_of(tensor), what,
             tensor.is_quantized() ? "dequantize()" : "to_dense()");
    }
    if (!tensor.device().is_cpu() && !tensor.device().is_cuda()) {
      refuse(what, "must lie on a CPU or a CUDA device, got one on {}; pass {}.to(torch::kCPU)",
             tensor.device().str(), what);
    }
    if (!tensor.is_contiguous()) {
      refuse(what, "must be contiguous, got shape {} with strides {}; pass {}.contiguous()",
             text_of(tensor.sizes()), text_of(tensor.strides()), what);
    }
    if (const std::string other = in_other_type(what, tensor.scalar_type()); !other.empty()) {
      refuse(what, "must be f32, f64, f16, bf16, i32, i64 or u8, got {}; pass {}",
             at::toString(tensor.scalar_type()), other);
    }
    return buffer_of(tensor);
  }

  void require_same_rows(const at::Tensor& out, const at::Tensor& in) const {
    if (out.dim() > 0 && in.dim() > 0 && out.sizes().slice(1) == in.sizes().slice(1)) return;
    refuse("out and in", "must agree in all dimensions but the first, got {} and {}",
           text_of(out.sizes()), text_of(in.sizes()));
  }

 private:
  template <class... Arguments>
  [[noreturn]] void refuse(const char* what, fmt::format_string<Arguments...> format,
                           Arguments&&... arguments) const {
    throw UsageError(fmt::format("{}: {} {} (rank {} of {})", call_, what,
                                 fmt::format(format, std::forward<Arguments>(arguments)...),
                                 communicator_.rank(), communicator_.size()));
  }

  static std::string kind_of(const at::Tensor& tensor) {
    return tensor.is_quantized() ? "a quantized one"
                                 : fmt::format("one of layout {}", c10::str(tensor.layout()));
  }

  // What to pass in place of a tensor of this type; empty if it can be communicated.
  static std::string in_other_type(const char* what, at::ScalarType type) {
    switch (type) {
      case at::kFloat:
      case at::kDouble:
      case at::kHalf:
      case at::kBFloat16:
      case at::kInt:
      case at::kLong:
      case at::kByte:
        return {};
      case at::kBool:
      case at::kChar:
        return fmt::format("{}.to(torch::kByte)", what);
      default:
        return at::isComplexType(type) ? fmt::format("torch::view_as_real({})", what)
                                       : fmt::format("{}.to(torch::kInt)", what);
    }
  }

  const Communicator& communicator_;
  const char* call_;
};

Buffer memory_of(const Communicator& communicator, const char* call, const at::Tensor& x) {
  return Tensors(communicator, call).memory_of("x", x);
}

// Elements of one row: all dimensions but the first.
std::int64_t row_size(const at::Tensor& tensor) {
  const at::IntArrayRef sizes = tensor.sizes().slice(1);
  return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
}

std::vector<std::int64_t> elements_of(std::span<const std::int64_t> rows, std::int64_t row) {
  std::vector<std::int64_t> counts(rows.begin(), rows.end());
  for (std::int64_t& count : counts) count *= row;
  return counts;
}

}  // namespace

Work all_reduce(Communicator& communicator, const at::Tensor& x, ReduceOp op,
                SourceLocation where) {
  return keep(x, {}, communicator.all_reduce(memory_of(communicator, "all_reduce", x), op, where));
}

Work broadcast(Communicator& communicator, const at::Tensor& x, int root, SourceLocation where) {
  return keep(x, {}, communicator.broadcast(memory_of(communicator, "broadcast", x), root, where));
}

Work all_gather(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                std::span<const std::int64_t> rows, SourceLocation where) {
  const Tensors tensors(communicator, "all_gather");
  const Buffer to = tensors.memory_of("out", out);
  const Buffer from = tensors.memory_of("in", in);
  tensors.require_same_rows(out, in);
  if (rows.empty()) return keep(out, in, communicator.all_gather(to, from, where));
  return keep(out, in, communicator.all_gather(to, from, elements_of(rows, row_size(in)), where));
}

Work reduce_scatter(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                    std::span<const std::int64_t> rows, ReduceOp op, SourceLocation where) {
  const Tensors tensors(communicator, "reduce_scatter");
  const Buffer to = tensors.memory_of("out", out);
  const Buffer from = tensors.memory_of("in", in);
  tensors.require_same_rows(out, in);
  if (rows.empty()) return keep(out, in, communicator.reduce_scatter(to, from, op, where));
  return keep(out, in,
              communicator.reduce_scatter(to, from, elements_of(rows, row_size(in)), op, where));
}

Work all_to_all(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                std::span<const std::int64_t> out_rows, std::span<const std::int64_t> in_rows,
                SourceLocation where) {
  const Tensors tensors(communicator, "all_to_all");
  const Buffer to = tensors.memory_of("out", out);
  const Buffer from = tensors.memory_of("in", in);
  tensors.require_same_rows(out, in);
  if (out_rows.empty() && in_rows.empty()) {
    return keep(out, in, communicator.all_to_all(to, from, where));
  }
  const std::int64_t row = row_size(in);
  return keep(out, in,
              communicator.all_to_all(to, elements_of(out_rows, row), from,
                                      elements_of(in_rows, row), where));
}

Work send(Communicator& communicator, const at::Tensor& x, int to, int tag, SourceLocation where) {
  return keep(x, {}, communicator.send(memory_of(communicator, "send", x), to, tag, where));
}

Work recv(Communicator& communicator, const at::Tensor& x, int from, int tag,
          SourceLocation where) {
  return keep(x, {}, communicator.recv(memory_of(communicator, "recv", x), from, tag, where));
}

}  // namespace trireme
