// The same for tests of what needs libtorch.
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include "tests/precompiled.h"
