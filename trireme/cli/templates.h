#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme::cli {

/// The files of the data set that some templates train on.
inline constexpr const char* kFashionMnistFiles[] = {
    "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz"};

/// The names of the templates of `trireme init`: "linear", "mlp", "cnn", "gpt".
const std::vector<std::string>& template_names();

/// Where the data of the templates is on this machine.
struct TemplateData {
  std::string fashion_mnist;  ///< folder of kFashionMnistFiles
  std::string text;           ///< a text file; empty: a generated text
};

/// Returns a commented configuration that runs unchanged. Throws UsageError for an unknown name.
std::string configuration_template(std::string_view name, const TemplateData& data);

}  // namespace trireme::cli
