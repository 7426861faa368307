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

Buffer memory_of(const char* call, const char* what, const at::Tensor& tensor) {
  if (!tensor.defined()) {
    throw UsageError(fmt::format("{}: {} must be a tensor, got an undefined one", call, what));
  }
  if (!tensor.is_contiguous()) {
    throw UsageError(
        fmt::format("{}: {} must be contiguous, got shape {} with strides {}; pass {}.contiguous()",
                    call, what, text_of(tensor.sizes()), text_of(tensor.strides()), what));
  }
  return buffer_of(tensor);
}

// Elements of one row: all dimensions but the first.
std::int64_t row_size(const at::Tensor& tensor) {
  const at::IntArrayRef sizes = tensor.sizes().slice(1);
  return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
}

void check_rows(const char* call, const at::Tensor& out, const at::Tensor& in) {
  if (out.dim() > 0 && in.dim() > 0 && out.sizes().slice(1) == in.sizes().slice(1)) return;
  throw UsageError(
      fmt::format("{}: out and in must agree in all dimensions but the first, got {} and {}", call,
                  text_of(out.sizes()), text_of(in.sizes())));
}

std::vector<std::int64_t> elements_of(std::span<const std::int64_t> rows, std::int64_t row) {
  std::vector<std::int64_t> counts(rows.begin(), rows.end());
  for (std::int64_t& count : counts) count *= row;
  return counts;
}

}  // namespace

Work all_reduce(Communicator& communicator, const at::Tensor& x, ReduceOp op,
                SourceLocation where) {
  return keep(x, {}, communicator.all_reduce(memory_of("all_reduce", "x", x), op, where));
}

Work broadcast(Communicator& communicator, const at::Tensor& x, int root, SourceLocation where) {
  return keep(x, {}, communicator.broadcast(memory_of("broadcast", "x", x), root, where));
}

Work all_gather(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                std::span<const std::int64_t> rows, SourceLocation where) {
  const Buffer to = memory_of("all_gather", "out", out);
  const Buffer from = memory_of("all_gather", "in", in);
  check_rows("all_gather", out, in);
  if (rows.empty()) return keep(out, in, communicator.all_gather(to, from, where));
  return keep(out, in, communicator.all_gather(to, from, elements_of(rows, row_size(in)), where));
}

Work reduce_scatter(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                    std::span<const std::int64_t> rows, ReduceOp op, SourceLocation where) {
  const Buffer to = memory_of("reduce_scatter", "out", out);
  const Buffer from = memory_of("reduce_scatter", "in", in);
  check_rows("reduce_scatter", out, in);
  if (rows.empty()) return keep(out, in, communicator.reduce_scatter(to, from, op, where));
  return keep(out, in,
              communicator.reduce_scatter(to, from, elements_of(rows, row_size(in)), op, where));
}

Work all_to_all(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                std::span<const std::int64_t> out_rows, std::span<const std::int64_t> in_rows,
                SourceLocation where) {
  const Buffer to = memory_of("all_to_all", "out", out);
  const Buffer from = memory_of("all_to_all", "in", in);
  check_rows("all_to_all", out, in);
  if (out_rows.empty() && in_rows.empty()) {
    return keep(out, in, communicator.all_to_all(to, from, where));
  }
  const std::int64_t row = row_size(in);
  return keep(out, in,
              communicator.all_to_all(to, elements_of(out_rows, row), from,
                                      elements_of(in_rows, row), where));
}

Work send(Communicator& communicator, const at::Tensor& x, int to, int tag, SourceLocation where) {
  return keep(x, {}, communicator.send(memory_of("send", "x", x), to, tag, where));
}

Work recv(Communicator& communicator, const at::Tensor& x, int from, int tag,
          SourceLocation where) {
  return keep(x, {}, communicator.recv(memory_of("recv", "x", x), from, tag, where));
}

}  // namespace trireme
