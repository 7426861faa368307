#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "trireme/base/buffer.h"
#include "trireme/formats/safetensors.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme::test {

/// A tensor of a file of values that another program has computed.
inline at::Tensor tensor_in(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.info(name);
  at::Tensor values = at::empty(info.shape, scalar_type_of(info.dtype));
  file.read(name, buffer_of(values));
  return values;
}

/// What follows `prefix` in the names that begin with it.
inline std::set<std::string> names_after(const std::string& prefix, const SafetensorsFile& file) {
  std::set<std::string> names;
  for (const std::string& name : file.names()) {
    if (name.starts_with(prefix)) names.insert(name.substr(prefix.size()));
  }
  return names;
}

/// Differences may be 1e-12 of the greatest magnitude.
inline void expect_close(const at::Tensor& got, const at::Tensor& wanted, const std::string& what) {
  ASSERT_EQ(got.sizes(), wanted.sizes()) << what;
  const double scale = std::max(wanted.abs().max().item<double>(), 1e-300);
  EXPECT_LE((got - wanted).abs().max().item<double>() / scale, 1e-12) << what;
}

}  // namespace trireme::test
