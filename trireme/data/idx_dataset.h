#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "trireme/data/dataset.h"

namespace trireme {

struct IdxDatasetOptions {
  std::filesystem::path images;  ///< IDX of u8: (N, rows, columns) or (N, channels, rows, columns)
  std::filesystem::path labels;  ///< IDX of u8: (N)
  std::int64_t classes = 0;      ///< 0: the largest label and one
  double mean = 0;               ///< of the pixels in [0, 1]: a pixel p becomes
  double deviation = 1;          ///< (p / 255 - mean) / deviation
  /// Rows and columns to which each image gets a border of pixels p = 0. The image lies in the
  /// middle; of an odd number of rows or columns the last one lies below or right. 0: no border.
  std::int64_t pad_to = 0;
};

/// Labeled images in the format of MNIST and Fashion-MNIST, with or without gzip. Kept as bytes in
/// memory, turned into f32 batch by batch. The input shape is (1, rows, columns), or (channels,
/// rows, columns), with the border.
class IdxDataset final : public Dataset {
 public:
  /// Throws DataError if the files are damaged, do not belong together or hold no images,
  /// UsageError on a deviation that is not positive or images that are larger than pad_to.
  explicit IdxDataset(const IdxDatasetOptions& options);

  std::int64_t size() const override { return static_cast<std::int64_t>(labels_.size()); }
  std::vector<std::int64_t> input_shape() const override { return shape_; }
  Target target() const override { return Target::one_of(classes_); }
  Batch batch(std::span<const std::int64_t> indices) const override;

 private:
  // values: shape_
  void write_image(std::int64_t index, float* values) const;

  std::string pixels_;
  std::string labels_;
  std::vector<std::int64_t> image_;  // channels, rows, columns in the file
  std::vector<std::int64_t> shape_;  // with the border
  std::int64_t classes_;
  std::array<float, 256> value_of_;  // of each byte
};

}  // namespace trireme
