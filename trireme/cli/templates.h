#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme::cli {

/// What `trireme init` knows: "linear", "mlp", "cnn".
const std::vector<std::string>& template_names();

/// A commented configuration that works as it is. `fashion_mnist`: the folder of that data set.
/// Throws UsageError for an unknown name.
std::string configuration_template(std::string_view name, std::string_view fashion_mnist);

}  // namespace trireme::cli
