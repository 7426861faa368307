#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme::cli {

/// The files of the data set that some templates train on.
inline constexpr const char* kFashionMnistFiles[] = {
    "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz"};

/// The names of the templates of `trireme init`: "linear", "mlp", "cnn".
const std::vector<std::string>& template_names();

/// Returns a commented configuration that runs unchanged. `fashion_mnist` is the folder of that
/// data set. Throws UsageError for an unknown name.
std::string configuration_template(std::string_view name, std::string_view fashion_mnist);

}  // namespace trireme::cli
