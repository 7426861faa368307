#pragma once

#include <optional>

#include "trireme/parallel/gradient_buckets.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// What strategies that collect gradients in buckets have in common. `buckets_` is there once
/// attach() has made it.
class BucketedStrategy : public Strategy {
 public:
  void begin(int backward_passes) final { buckets_->begin(backward_passes); }
  Range virtual_workers() const final { return buckets_->virtual_workers(); }
  void add_loss(double loss) final { buckets_->add_loss(loss); }
  double loss() const final { return buckets_->loss(); }
  void raise_flag() final { buckets_->raise_flag(); }
  bool flag_raised() const final { return buckets_->flag_raised(); }

 protected:
  BucketedStrategy(Communicator& world, const StrategyOptions& options)
      : world_(world), options_(options) {}

  Communicator& world_;
  StrategyOptions options_;
  std::optional<GradientBuckets> buckets_;
};

}  // namespace trireme
