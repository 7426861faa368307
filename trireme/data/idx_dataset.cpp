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

void require_room(const IdxDatasetOptions& options, const std::vector<std::int64_t>& image) {
  const std::int64_t rows = image[1], columns = image[2];
  if (options.pad_to >= std::max(rows, columns)) return;
  throw UsageError(
      fmt::format("data.pad_to must be at least {}, for the images of {} have {}x{} pixels; got {}",
                  std::max(rows, columns), options.images.string(), rows, columns, options.pad_to));
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
  image_.assign(images.shape.begin() + 1, images.shape.end());
  if (image_.size() == 2) image_.insert(image_.begin(), 1);
  shape_ = image_;
  if (options.pad_to != 0) {
    require_room(options, image_);
    shape_[1] = shape_[2] = options.pad_to;
  }
  pixels_ = std::move(images.bytes);
  labels_ = std::move(labels.bytes);
  classes_ = checked_classes(options, labels_);
}

Batch IdxDataset::batch(std::span<const std::int64_t> indices) const {
  check_indices(indices, {0, size()});
  at::DimVector shape(shape_.begin(), shape_.end());
  shape.insert(shape.begin(), static_cast<std::int64_t>(indices.size()));
  Batch batch{shape_ == image_ ? at::empty(shape, at::kFloat) : at::full(shape, value_of_[0]),
              at::empty({shape[0]}, at::kLong)};
  float* values = batch.input.data_ptr<float>();
  std::int64_t* label = batch.target.data_ptr<std::int64_t>();
  for (const std::int64_t i : indices) {
    write_image(i, values);
    values += shape_[0] * shape_[1] * shape_[2];
    *label++ = byte_of(labels_[static_cast<std::size_t>(i)]);
  }
  return batch;
}

void IdxDataset::write_image(std::int64_t index, float* values) const {
  const std::int64_t channels = image_[0], rows = image_[1], columns = image_[2];
  const std::int64_t top = (shape_[1] - rows) / 2, left = (shape_[2] - columns) / 2;
  const char* pixel = pixels_.data() + index * channels * rows * columns;
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    for (std::int64_t row = 0; row < rows; ++row) {
      float* value = values + (channel * shape_[1] + top + row) * shape_[2] + left;
      for (std::int64_t p = 0; p < columns; ++p) value[p] = value_of_[byte_of(pixel[p])];
      pixel += columns;
    }
  }
}

}  // namespace trireme
