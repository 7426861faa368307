#include "trireme/data/standardize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "trireme/base/error.h"

namespace trireme {

namespace {

constexpr std::int64_t kRowsAtATime = 256;

using Sums = std::vector<double>;

// The inputs and, if `targets`, the targets of each sample as f64, side by side: (B, width).
at::Tensor values_of(const Batch& batch, bool targets) {
  const at::Tensor inputs = batch.input.flatten(1).to(at::kDouble);
  return targets ? at::cat({inputs, batch.target.to(at::kDouble)}, 1) : inputs.contiguous();
}

// Calls `use(values)` with every sample of `samples`, in order.
void for_each_sample(const Dataset& dataset, Range samples, bool targets,
                     const std::function<void(std::span<const double>)>& use) {
  for (std::int64_t at = samples.begin; at < samples.end; at += kRowsAtATime) {
    std::vector<std::int64_t> indices(
        static_cast<std::size_t>(std::min(kRowsAtATime, samples.end - at)));
    std::iota(indices.begin(), indices.end(), at);
    const at::Tensor values = values_of(dataset.batch(indices), targets);
    const std::size_t width = static_cast<std::size_t>(values.size(1));
    const std::span all(values.data_ptr<double>(), static_cast<std::size_t>(values.numel()));
    for (std::size_t row = 0; row < indices.size(); ++row) use(all.subspan(row * width, width));
  }
}

// Sums over all samples in the tree's order: each rank sums those of its own virtual workers.
class TreeSum {
 public:
  TreeSum(const Dataset& dataset, Communicator& world, const ReductionTree& tree, bool targets,
          std::size_t width)
      : dataset_(dataset), world_(world), tree_(tree), targets_(targets), width_(width) {}

  /// `add(sums, values)` adds one sample's contribution to the sums of its virtual worker.
  Sums operator()(const std::function<void(Sums&, std::span<const double>)>& add) const {
    const auto nodes = tree_.nodes_of(world_.rank());
    Sums rows;
    for (const ReductionTree::Node& node : nodes) {
      const Sums sums = node_sums(node, add);
      rows.insert(rows.end(), sums.begin(), sums.end());
    }
    world_.all_reduce(buffer_of<double>(rows), tree_).wait();
    rows.resize(width_);
    return rows;
  }

 private:
  Sums node_sums(ReductionTree::Node node,
                 const std::function<void(Sums&, std::span<const double>)>& add) const {
    if (node.level == 0) {
      Sums sums(width_, 0.0);
      const Range samples = partition(dataset_.size(), tree_.virtual_workers(), node.index);
      for_each_sample(dataset_, samples, targets_,
                      [&](std::span<const double> values) { add(sums, values); });
      return sums;
    }
    Sums left = node_sums({node.level - 1, node.index * 2}, add);
    const Sums right = node_sums({node.level - 1, node.index * 2 + 1}, add);
    for (std::size_t j = 0; j < width_; ++j) left[j] += right[j];
    return left;
  }

  const Dataset& dataset_;
  Communicator& world_;
  const ReductionTree& tree_;
  bool targets_;
  std::size_t width_;
};

// Sample 0 on every rank. Sums are taken of distances from it, so that a constant value has exactly
// itself as its mean and a deviation of zero.
Sums first_sample(const Dataset& dataset, Communicator& world, bool targets, std::size_t width) {
  Sums first(width, 0.0);
  if (world.rank() == 0) {
    for_each_sample(dataset, {0, 1}, targets, [&](std::span<const double> values) {
      first.assign(values.begin(), values.end());
    });
  }
  world.broadcast(buffer_of<double>(first), 0).wait();
  return first;
}

// The least value of each column that is not missing, which serves the same purpose where sample 0
// may lack values.
Sums least_values(const Dataset& dataset, Communicator& world, const ReductionTree& tree,
                  bool targets, std::size_t width) {
  Sums least(width, std::numeric_limits<double>::infinity());
  const Range workers = tree.virtual_workers_of(world.rank());
  for (std::int64_t worker = workers.begin; worker < workers.end; ++worker) {
    for_each_sample(dataset, partition(dataset.size(), tree.virtual_workers(), worker), targets,
                    [&](std::span<const double> x) {
                      for (std::size_t j = 0; j < width; ++j) {
                        if (x[j] < least[j]) least[j] = x[j];
                      }
                    });
  }
  world.all_reduce(buffer_of<double>(least), ReduceOp::kMin).wait();
  for (std::size_t j = 0; j < width; ++j) {
    if (std::isfinite(least[j])) continue;
    throw UsageError(fmt::format(
        "standardize: input {} must have a value in one of the training samples, has none; leave "
        "it out",
        j));
  }
  return least;
}

void check(const Dataset& dataset, bool targets) {
  if (dataset.size() < 1) throw UsageError("standardize: the dataset must have samples, has none");
  if (targets && !dataset.target().is_numbers()) {
    throw UsageError("standardize: targets must be numbers, are classes or tokens");
  }
}

template <class T>
void apply_to(at::Tensor& x, const std::vector<double>& mean,
              const std::vector<double>& deviation) {
  T* value = x.data_ptr<T>();
  const std::size_t width = mean.size();
  for (std::int64_t row = 0; row < x.size(0); ++row, value += width) {
    for (std::size_t j = 0; j < width; ++j) {
      value[j] = static_cast<T>((static_cast<double>(value[j]) - mean[j]) / deviation[j]);
    }
  }
}

void require_width(const at::Tensor& x, std::size_t width, const char* what) {
  const std::int64_t rows = x.size(0);
  if (rows == 0 || x.numel() / rows == static_cast<std::int64_t>(width)) return;
  throw UsageError(
      fmt::format("standardize: {} must have {} values, has {}", what, width, x.numel() / rows));
}

void scale(at::Tensor& x, const std::vector<double>& mean, const std::vector<double>& deviation,
           const char* what) {
  require_width(x, mean.size(), what);
  if (x.size(0) == 0) return;
  x = x.contiguous();
  if (x.scalar_type() == at::kFloat) return apply_to<float>(x, mean, deviation);
  if (x.scalar_type() == at::kDouble) return apply_to<double>(x, mean, deviation);
  throw UsageError(fmt::format("standardize: {} must be f32 or f64, is {}", what,
                               at::toString(x.scalar_type())));
}

void fill_missing(at::Tensor& x, const std::vector<double>& fill) {
  const at::Tensor values = at::tensor(fill, at::kDouble).to(x.scalar_type());
  x = at::where(x.isnan(), values.reshape(x.sizes().slice(1)), x);
}

}  // namespace

void Standardization::apply(Batch& batch) const {
  if (!fill.empty()) {
    require_width(batch.input, fill.size(), "an input");
    fill_missing(batch.input, fill);
  }
  if (!mean.empty()) scale(batch.input, mean, deviation, "an input");
  if (!target_mean.empty()) scale(batch.target, target_mean, target_deviation, "a target");
}

Standardization standardization_of(const Dataset& dataset, Communicator& world,
                                   const ReductionTree& tree, StandardizationOptions options) {
  check(dataset, options.targets);
  const auto shape = dataset.input_shape();
  const auto inputs = static_cast<std::size_t>(
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
  const std::size_t width =
      inputs + (options.targets ? static_cast<std::size_t>(dataset.target().width) : 0);
  const TreeSum sum(dataset, world, tree, options.targets, width);
  const auto samples = static_cast<double>(dataset.size());
  Sums mean = options.fill_missing ? least_values(dataset, world, tree, options.targets, width)
                                   : first_sample(dataset, world, options.targets, width);
  // A missing value adds nothing to the sums: it is filled with the mean.
  const auto present = [&](double x, double value) {
    return options.fill_missing && std::isnan(x) ? 0.0 : value;
  };
  Sums values(width, samples);
  if (options.fill_missing) {
    values = sum([&](Sums& sums, std::span<const double> x) {
      for (std::size_t j = 0; j < width; ++j) sums[j] += present(x[j], 1.0);
    });
  }
  const Sums distances = sum([&](Sums& sums, std::span<const double> x) {
    for (std::size_t j = 0; j < width; ++j) sums[j] += present(x[j], x[j] - mean[j]);
  });
  for (std::size_t j = 0; j < width; ++j) mean[j] += distances[j] / values[j];
  const auto cut = static_cast<std::ptrdiff_t>(inputs);
  Standardization found;
  if (options.fill_missing) found.fill.assign(mean.begin(), mean.begin() + cut);
  Sums deviation = sum([&](Sums& sums, std::span<const double> x) {
    for (std::size_t j = 0; j < width; ++j) {
      sums[j] += present(x[j], (x[j] - mean[j]) * (x[j] - mean[j]));
    }
  });
  for (std::size_t j = 0; j < width; ++j) {
    deviation[j] = deviation[j] > 0 ? std::sqrt(deviation[j] / samples) : 1.0;
  }
  found.mean.assign(mean.begin(), mean.begin() + cut);
  found.deviation.assign(deviation.begin(), deviation.begin() + cut);
  found.target_mean.assign(mean.begin() + cut, mean.end());
  found.target_deviation.assign(deviation.begin() + cut, deviation.end());
  return found;
}

Batch StandardizedDataset::batch(std::span<const std::int64_t> indices) const {
  Batch batch = inner_.batch(indices);
  by_.apply(batch);
  batch.input = batch.input.to(type_);
  if (inner_.target().is_numbers()) batch.target = batch.target.to(type_);
  return batch;
}

}  // namespace trireme
