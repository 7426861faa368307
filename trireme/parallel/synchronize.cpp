#include "trireme/parallel/synchronize.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"

namespace trireme {

namespace {

// A hash of everything that must be equal on all ranks.
std::uint64_t fingerprint(const NamedTensors& model) {
  std::uint64_t hash = fnv1a("");
  for (const auto* tensors : {&model.parameters, &model.buffers}) {
    for (const auto& [name, tensor] : *tensors) {
      hash = fnv1a(fmt::format("{} {} [{}] {};", name, at::toString(tensor.scalar_type()),
                               fmt::join(tensor.sizes(), ","), tensor.requires_grad()),
                   hash);
    }
  }
  return hash;
}

void require_dense(const char* kind, const NamedTensor& named) {
  const auto& [name, tensor] = named;
  if (tensor.layout() == at::kStrided && !tensor.is_quantized() && tensor.device().is_cpu()) return;
  throw UsageError(fmt::format(
      "attach: {} {} must be a dense tensor on the CPU, got {} {} on {}; keep a tensor that is not "
      "dense out of the module's registered tensors, and move others by to(torch::kCPU)",
      kind, name, at::toString(tensor.scalar_type()), c10::str(tensor.layout()),
      tensor.device().str()));
}

void require_supported(const NamedTensors& model) {
  for (const NamedTensor& buffer : model.buffers) require_dense("buffer", buffer);
  for (const NamedTensor& parameter : model.parameters) {
    require_dense("parameter", parameter);
    const at::ScalarType type = parameter.second.scalar_type();
    if (!parameter.second.requires_grad() || type == at::kFloat || type == at::kDouble ||
        type == at::kHalf || type == at::kBFloat16) {
      continue;
    }
    throw UsageError(fmt::format(
        "attach: parameter {} must be f32, f64, f16 or bf16, got {}; keep its real and imaginary "
        "parts as two parameters, or freeze it by requires_grad_(false)",
        parameter.first, at::toString(type)));
  }
}

void require_same_model(Communicator& world, const NamedTensors& model) {
  const auto mine = static_cast<std::int64_t>(fingerprint(model));
  std::array<std::int64_t, 2> extremes{mine, mine};
  world.all_reduce(buffer_of(std::span(&extremes[0], 1)), ReduceOp::kMin).wait();
  world.all_reduce(buffer_of(std::span(&extremes[1], 1)), ReduceOp::kMax).wait();
  if (extremes[0] == extremes[1]) return;
  throw UsageError(fmt::format(
      "attach: the ranks' models differ in the names, shapes, types or requires_grad of their "
      "tensors; this is rank {} of {} with {} parameters and {} buffers. Build the same model on "
      "every rank",
      world.rank(), world.size(), model.parameters.size(), model.buffers.size()));
}

// Broadcasts tensors in the order of add(), many small ones in one message.
class Broadcast {
 public:
  explicit Broadcast(Communicator& world) : world_(world) {}

  void add(const at::Tensor& tensor) {
    if (tensor.nbytes() > kMessageBytes) {
      flush();
      const at::Tensor values = tensor.detach().contiguous();
      send({static_cast<std::byte*>(values.data_ptr()), values.nbytes()});
      receive(tensor, values);
      return;
    }
    if (bytes_ + tensor.nbytes() > kMessageBytes) flush();
    tensors_.push_back(tensor);
    bytes_ += tensor.nbytes();
  }

  void flush() {
    message_.resize(bytes_);
    std::size_t at = 0;
    for (const at::Tensor& tensor : tensors_) {
      const at::Tensor values = tensor.detach().contiguous();
      if (values.nbytes() > 0)
        std::memcpy(message_.data() + at, values.data_ptr(), values.nbytes());
      at += values.nbytes();
    }
    send(message_);
    at = 0;
    for (const at::Tensor& tensor : tensors_) {
      const at::Tensor values = at::empty(tensor.sizes(), tensor.options());
      if (values.nbytes() > 0)
        std::memcpy(values.data_ptr(), message_.data() + at, values.nbytes());
      at += values.nbytes();
      receive(tensor, values);
    }
    tensors_.clear();
    bytes_ = 0;
  }

 private:
  static constexpr std::size_t kMessageBytes = std::size_t{1} << 20;

  void send(std::span<std::byte> bytes) {
    if (bytes.empty() || world_.size() == 1) return;
    world_.broadcast({bytes.data(), static_cast<std::int64_t>(bytes.size()), DType::kU8}, 0).wait();
  }

  void receive(const at::Tensor& tensor, const at::Tensor& values) const {
    if (world_.rank() > 0 && tensor.data_ptr() != values.data_ptr()) tensor.detach().copy_(values);
  }

  Communicator& world_;
  std::vector<at::Tensor> tensors_;
  std::size_t bytes_ = 0;
  std::vector<std::byte> message_;
};

void make_contiguous(const NamedTensors& model) {
  for (const auto* tensors : {&model.parameters, &model.buffers}) {
    for (const auto& [name, tensor] : *tensors) {
      if (!tensor.is_contiguous()) tensor.set_data(tensor.detach().contiguous());
    }
  }
}

// `is_wanted`: of a parameter.
void broadcast(Communicator& world, Model& model, bool (*is_wanted)(const at::Tensor&)) {
  const NamedTensors tensors = model.tensors();
  require_supported(tensors);
  make_contiguous(tensors);
  require_same_model(world, tensors);
  const at::NoGradGuard no_grad;
  Broadcast small(world);
  for (const NamedTensor& parameter : tensors.parameters) {
    const at::Tensor& tensor = parameter.second;
    if (!is_wanted(tensor)) continue;
    if (model.deferred_weights().contain(tensor)) {
      tensor.set_data(values_of_first_rank(world, model, parameter));
    } else {
      small.add(tensor);
    }
  }
  for (const NamedTensor& buffer : tensors.buffers) small.add(buffer.second);
  small.flush();
}

}  // namespace

at::Tensor values_of_first_rank(Communicator& world, const Model& model,
                                const NamedTensor& parameter) {
  at::Tensor values = parameter.second.detach();
  if (model.deferred_weights().contain(parameter.second)) {
    values = world.rank() == 0 ? model.deferred_weights().initial_values(parameter)
                               : at::empty(values.sizes(), values.options());
  }
  const at::NoGradGuard no_grad;
  Broadcast broadcast(world);
  broadcast.add(values);
  broadcast.flush();
  return values;
}

void broadcast_fixed_tensors(Communicator& world, Model& model) {
  broadcast(world, model, [](const at::Tensor& parameter) { return !parameter.requires_grad(); });
}

void broadcast_from_first_rank(Communicator& world, Model& model) {
  broadcast(world, model, [](const at::Tensor&) { return true; });
}

}  // namespace trireme
