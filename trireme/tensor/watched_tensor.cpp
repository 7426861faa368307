#include "trireme/tensor/watched_tensor.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstring>

#include "trireme/base/error.h"

namespace trireme {

namespace {

constexpr std::size_t kComparedBytes = std::size_t{1} << 20;
constexpr std::size_t kPlaces = 64;
constexpr std::size_t kPlaceBytes = 256;

std::int64_t version_of(const at::Tensor& tensor) {
  return tensor.is_inference() ? 0 : static_cast<std::int64_t>(tensor._version());
}

bool differs_somewhere(const char* a, const char* b, std::size_t bytes) {
  const std::size_t stride = (bytes - kPlaceBytes) / (kPlaces - 1);
  for (std::size_t place = 0; place < kPlaces; ++place) {
    if (std::memcmp(a + place * stride, b + place * stride, kPlaceBytes) != 0) return true;
  }
  return false;
}

const char* memory_of(const at::Tensor& tensor) {
  return static_cast<const char*>(tensor.data_ptr());
}

}  // namespace

WatchedTensor::WatchedTensor(NamedTensor tensor) : tensor_(std::move(tensor)) {
  remember();
}

bool WatchedTensor::has_changed() const {
  const at::Tensor& now = tensor();
  if (now.sizes() != remembered_.sizes() || now.scalar_type() != remembered_.scalar_type()) {
    throw UsageError(fmt::format(
        "buffer {}: must stay {} [{}], got {} [{}]; make a new strategy for a model of another "
        "shape or type",
        name(), at::toString(remembered_.scalar_type()), fmt::join(remembered_.sizes(), ", "),
        at::toString(now.scalar_type()), fmt::join(now.sizes(), ", ")));
  }
  const std::size_t bytes = remembered_.nbytes();
  if (bytes == 0) return false;
  if (bytes <= kComparedBytes) {
    const at::Tensor values = now.contiguous();
    return std::memcmp(memory_of(values), memory_of(remembered_), bytes) != 0;
  }
  if (version_of(now) != version_ || now.data_ptr() != memory_) return true;
  return now.is_contiguous() && differs_somewhere(memory_of(now), memory_of(remembered_), bytes);
}

void WatchedTensor::remember() {
  const at::NoGradGuard no_grad;
  if (remembered_.defined()) {
    remembered_.copy_(tensor());
  } else {
    remembered_ = tensor().detach().clone(at::MemoryFormat::Contiguous);
  }
  note_state();
}

void WatchedTensor::restore() {
  const at::NoGradGuard no_grad;
  // variable_data() counts no version: backward passes of other micro-batches may be to come, which
  // have saved the buffer but do not read it.
  tensor().variable_data().copy_(remembered_);
  note_state();
}

void WatchedTensor::assign(const at::Tensor& values) {
  const at::NoGradGuard no_grad;
  remembered_.copy_(values);
  tensor().copy_(remembered_);
  note_state();
}

void WatchedTensor::note_state() {
  version_ = version_of(tensor());
  memory_ = tensor().data_ptr();
}

Buffer bytes_of(const at::Tensor& tensor) {
  return {tensor.data_ptr(), static_cast<std::int64_t>(tensor.nbytes()), DType::kU8};
}

}  // namespace trireme
