// Parsed once for every source of the library: the narrow part of libtorch that most of it needs.
#include <ATen/ATen.h>
#include <torch/nn/module.h>
