#include "trireme/data/idx_dataset.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/data/rows.h"
#include "trireme/formats/idx.h"

namespace trireme {

namespace {

IdxArray read_bytes(const std::filesystem::path& path, std::size_t least, std::size_t most,
                    const char* what) {
  IdxArray array = read_idx(path);
  if (array.type != IdxType::kU8 || array.shape.size() < least || array.shape.size() > most) {
    throw DataError(fmt::format("{}: must hold {}, holds {} in {} dimensions", path.string(), what,
                                name_of(array.type), array.shape.size()));
  }
  return array;
}

unsigned char byte_of(char c) {
  return static_cast<unsigned char>(c);
}

std::int64_t checked_classes(const IdxDatasetOptions& options, const std::string& labels) {
  const std::int64_t largest = std::ranges::max(labels, {}, byte_of) & 0xff;
  if (options.classes != 0 && largest >= options.classes) {
    throw DataError(
        fmt::format("{}: labels must lie in [0, {}), the classes of the training data, "
                    "got {}",
                    options.labels.string(), options.classes, largest));
  }
  return options.classes != 0 ? options.classes : largest + 1;
}

std::array<float, 256> value_of_each_byte(const IdxDatasetOptions& options) {
  if (!(options.deviation > 0)) {
    throw UsageError(
        fmt::format("IDX dataset: deviation must be positive, got {}", options.deviation));
  }
  std::array<float, 256> values;
  for (int byte = 0; byte < 256; ++byte) {
    values[byte] = static_cast<float>((byte / 255.0 - options.mean) / options.deviation);
  }
  return values;
}

}  // namespace

IdxDataset::IdxDataset(const IdxDatasetOptions& options) : value_of_(value_of_each_byte(options)) {
  IdxArray images = read_bytes(options.images, 3, 4, "u8 images in 3 or 4 dimensions");
  IdxArray labels = read_bytes(options.labels, 1, 1, "u8 labels in 1 dimension");
  if (std::ranges::count(images.shape, 0) > 0) {
    throw DataError(fmt::format("{}: must hold images with pixels, holds {} of [{}]",
                                options.images.string(), images.shape[0],
                                fmt::join(images.shape.begin() + 1, images.shape.end(), ", ")));
  }
  if (images.shape[0] != labels.shape[0]) {
    throw DataError(fmt::format("{}: must hold a label for each image of {}, holds {} for {}",
                                options.labels.string(), options.images.string(), labels.shape[0],
                                images.shape[0]));
  }
  shape_.assign(images.shape.begin() + 1, images.shape.end());
  if (shape_.size() == 2) shape_.insert(shape_.begin(), 1);
  for (const std::int64_t d : shape_) pixels_of_one_ *= d;
  pixels_ = std::move(images.bytes);
  labels_ = std::move(labels.bytes);
  classes_ = checked_classes(options, labels_);
}

Batch IdxDataset::batch(std::span<const std::int64_t> indices) const {
  check_indices(indices, {0, size()});
  at::DimVector shape(shape_.begin(), shape_.end());
  shape.insert(shape.begin(), static_cast<std::int64_t>(indices.size()));
  Batch batch{at::empty(shape, at::kFloat), at::empty({shape[0]}, at::kLong)};
  float* value = batch.input.data_ptr<float>();
  std::int64_t* label = batch.target.data_ptr<std::int64_t>();
  for (const std::int64_t i : indices) {
    const char* pixel = pixels_.data() + i * pixels_of_one_;
    for (std::int64_t p = 0; p < pixels_of_one_; ++p) value[p] = value_of_[byte_of(pixel[p])];
    value += pixels_of_one_;
    *label++ = byte_of(labels_[static_cast<std::size_t>(i)]);
  }
  return batch;
}

}  // namespace trireme
