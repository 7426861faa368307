#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Sets a parameter to its initial values, which depend on nothing but its name and shape.
using InitialValues = std::function<void(const NamedTensor& parameter)>;

/// Sets all parameters of a model to their initial values.
void initialize(const NamedTensors& model, const InitialValues& values);

/// Sets a tensor to N(0, deviation), which depends on `seed` and `name` alone.
void set_normal(const at::Tensor& tensor, std::string_view name, double deviation,
                std::uint64_t seed);

/// Sets a model's parameters to their initial values, which depend on `seed` and the parameter's
/// name alone: every rank computes the same numbers, with any libtorch and any number of threads.
///
///     initialize(model.tensors(), "kaiming_normal", seed, "relu");
///
/// With n_in and n_out the connections into and out of one unit (elements of a weight
/// [out, in, ...] divided by out and by in) and g = gain_of(activation):
///
///     default          U(-b, b), b = 1/sqrt(n_in), biases as well: what torch.nn draws
///     xavier_uniform   U(-b, b), b = g sqrt(6/(n_in + n_out))    Glorot and Bengio 2010, eq. 16
///     xavier_normal    N(0, s),  s = g sqrt(2/(n_in + n_out))
///     kaiming_uniform  U(-b, b), b = g sqrt(3/n_in)              He et al. 2015, eq. 10
///     kaiming_normal   N(0, s),  s = g/sqrt(n_in)
///     orthogonal       g Q with orthonormal rows or columns      Saxe et al. 2013
///     zero             0
///
/// This is for weights, the parameters of two dimensions and more. Parameters of one dimension
/// named "bias" become zero; others, such as the scales of batch normalization, keep their values.
/// Throws UsageError for an unknown name.
void initialize(const NamedTensors& model, std::string_view name, std::uint64_t seed,
                std::string_view activation = "linear");

/// The same, parameter by parameter. Throws UsageError for an unknown name.
InitialValues initial_values(const NamedTensors& model, std::string_view name, std::uint64_t seed,
                             std::string_view activation = "linear");

/// Returns the factor that keeps the variance of activations: 1 for linear and sigmoid, 5/3 for
/// tanh, sqrt(2) for relu and gelu. Throws UsageError for others.
double gain_of(std::string_view activation);

}  // namespace trireme
