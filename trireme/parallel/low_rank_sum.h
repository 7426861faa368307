#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/compress.h"
#include "trireme/kernels/compress/power_sgd.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

struct NamedShape {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// Sums tensors over all ranks by PowerSGD as in the paper (Vogels et al. 2019, algorithm 1): P and
/// Q are linear in M, so that ranks sum the factors. With M_r the value of rank r plus its
/// residual,
///
///     P = orthonormal(sum M_r Q'),   Q = sum M_r^T P,   sum M_r is taken to be P Q^T,
///     residual of rank r = M_r - P P^T M_r.
///
/// Two all-reduces, of rank * rows and of rank * columns values; Q' is the Q of the step before,
/// the same on every rank. Tensors that factors would not make smaller are all-reduced as they are.
class LowRankSum {
 public:
  /// Collective.
  LowRankSum(Communicator& world, const CompressionOptions& options,
             std::span<const NamedShape> tensors);

  /// As in CompressedSum. finish() is collective.
  Work start(std::span<const Buffer> values, std::int64_t step);
  void finish(std::span<const Buffer> sums);
  void restore_residual(std::size_t tensor);
  std::vector<StateTensor> state();

 private:
  struct Part {
    std::string name;
    std::uint64_t stream = 0;
    compress::LowRank layout;
    std::vector<float> residual;  // all of a tensor that is not compressed, for a step
    std::vector<float> q;         // Q', the same on every rank
    std::vector<float> own_q;     // this rank's term of Q
    std::int64_t first = 0;       // of its P, or of its values, in first_
    std::int64_t second = 0;      // of its Q in second_

    bool is_matrix() const { return layout.rows > 0; }
  };

  float* first(const Part& part) const { return static_cast<float*>(first_.data()) + part.first; }
  float* second(const Part& part) const {
    return static_cast<float*>(second_.data()) + part.second;
  }
  std::uint64_t seed_of(const Part& part, std::int64_t step) const;

  Communicator& world_;
  std::uint64_t seed_;
  std::vector<Part> parts_;
  std::int64_t step_ = 0;
  std::int64_t first_count_ = 0;
  std::int64_t second_count_ = 0;
  Memory first_;   // operand of the first all-reduce
  Memory second_;  // and of the second one
};

}  // namespace trireme
