#include "tests/parallel/sharded_run.h"

#include <ATen/ATen.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include <cstring>
#include <map>
#include <mutex>

#include "tests/comm/ranks.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/base/runs.h"
#include "trireme/model/module_block.h"
#include "trireme/model/products.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/optim/parameter_groups.h"
#include "trireme/parallel/replicated.h"
#include "trireme/tensor/prepare_groups.h"

namespace trireme::test {

namespace {

constexpr std::int64_t kWidth = 48;
constexpr std::int64_t kWords = 150;
constexpr std::int64_t kSamples = 3;

at::Tensor weight_of(at::IntArrayRef shape, std::uint64_t seed) {
  return random_tensor(shape, seed).mul_(0.2).requires_grad_(true);
}

struct Embedding : torch::nn::Module {
  explicit Embedding(at::Tensor table) : weight(register_parameter("weight", table)) {}
  at::Tensor forward(const at::Tensor& x) { return at::embedding(weight, x); }
  at::Tensor weight;
};

// A layer that adds to its input, with products in the type that is chosen.
struct Layer : torch::nn::Module {
  explicit Layer(std::uint64_t seed)
      : up(register_parameter("up", weight_of({4 * kWidth, kWidth}, seed))),
        up_bias(register_parameter("up_bias", weight_of({4 * kWidth}, seed + 1))),
        down(register_parameter("down", weight_of({kWidth, 4 * kWidth}, seed + 2))),
        down_bias(register_parameter("down_bias", weight_of({kWidth}, seed + 3))),
        sometimes(register_parameter("sometimes", weight_of({kWidth}, seed + 4))),
        never(register_parameter("never", weight_of({70, 70}, seed + 5))),
        frozen(register_parameter("frozen", weight_of({kWidth}, seed + 6), false)),
        norm(register_module("norm", torch::nn::BatchNorm1d(kWidth))) {}

  // x: [n, kWidth]
  at::Tensor forward(const at::Tensor& x) {
    at::Tensor hidden = linear({norm(x), compute}, up, up_bias).relu();
    // Ranks are threads here, and libtorch's generator is one for all of them.
    if (is_training())
      hidden = hidden * random_tensor(hidden.sizes(), seed_).gt(-0.5).to(at::kFloat);
    at::Tensor y = x + linear({hidden, compute}, down, down_bias);
    y = y + frozen;
    return seed_ % 2 == 1 && is_training() ? y + sometimes : y;
  }

  void set_compute(const ComputeType& type) { compute = type; }
  void seed(std::uint64_t seed) { seed_ = seed; }

  at::Tensor up, up_bias, down, down_bias, sometimes, never, frozen;
  torch::nn::BatchNorm1d norm{nullptr};
  ComputeType compute;
  std::uint64_t seed_ = 0;
};

struct Output : torch::nn::Module {
  explicit Output(at::Tensor table) : weight(register_parameter("weight", table)) {}
  at::Tensor forward(const at::Tensor& x) { return linear({x, compute}, weight); }
  void set_compute(const ComputeType& type) { compute = type; }
  at::Tensor weight;
  ComputeType compute;
};

std::string bytes_of(const std::vector<double>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)};
}

std::string bytes_of(const at::Tensor& tensor) {
  const at::Tensor stored = tensor.detach().contiguous();
  return {static_cast<const char*>(stored.data_ptr()), stored.nbytes()};
}

// Whole tensors out of what ranks hold.
class Collected {
 public:
  void add(const std::string& name, const Region& region, const Buffer& values) {
    const std::lock_guard lock(mutex_);
    const std::size_t size = size_of(values.dtype);
    std::string& whole = whole_[name];
    whole.resize(static_cast<std::size_t>(elements_of(region.full_shape())) * size, '?');
    const auto* const bytes = static_cast<const char*>(values.data);
    for (const Run& run : runs_of(region)) {
      std::memcpy(whole.data() + static_cast<std::size_t>(run.full) * size,
                  bytes + static_cast<std::size_t>(run.local) * size,
                  static_cast<std::size_t>(run.count) * size);
    }
  }

  void add_rank(std::string report, std::string replica) {
    const std::lock_guard lock(mutex_);
    reports_.insert(std::move(report));
    if (!replica.empty()) replicas_.insert(std::move(replica));
  }

  const std::set<std::string>& reports() const { return reports_; }
  const std::set<std::string>& replicas() const { return replicas_; }

  std::vector<std::pair<std::string, std::string>> sorted() const {
    return {whole_.begin(), whole_.end()};
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> whole_;
  std::set<std::string> reports_, replicas_;
};

}  // namespace

bool is_same(const TrainedSteps& a, const TrainedSteps& b) {
  const bool both_hold = !a.replicas.empty() && !b.replicas.empty();
  return a.losses == b.losses && a.norms == b.norms && a.outputs == b.outputs &&
         a.tensors == b.tensors && a.reports == b.reports &&
         (!both_hold || a.replicas == b.replicas);
}

std::unique_ptr<Model> sharded_model(const ShardedCase& options) {
  const at::Tensor table = weight_of({kWords, kWidth}, 1);
  std::vector<std::unique_ptr<Block>> blocks;
  append_module(blocks, std::make_shared<Embedding>(table), "embedding.");
  append_module(blocks, std::make_shared<Layer>(10), "layer1.");
  append_module(blocks, std::make_shared<Layer>(20), "layer2.");
  append_module(blocks, std::make_shared<Output>(table), "output.");
  auto model = std::make_unique<Model>(std::move(blocks));
  model->set_recompute(options.recompute);
  if (options.compute != DType::kF32) model->set_compute({.operands = options.compute});
  if (options.defers_weights) {
    std::map<std::string, at::Tensor> values;
    for (const auto& [name, tensor] : model->tensors().parameters) {
      values[name] = tensor.detach().clone();
    }
    model->defer_weights([values = std::move(values)](const NamedTensor& weight) {
      weight.second.copy_(values.at(weight.first));
    });
  }
  return model;
}

void run_in_world(const ShardedCase& options, const std::function<void(Communicator&)>& body) {
  switch (options.world) {
    case World::kOneHost:
      return run_ranks(options.ranks, body);
    case World::kHostsOfOne:
      return run_ranks_over_messages(options.ranks, body);
    case World::kHostsOfTwo:
      return run_ranks_on_hosts(
          options.ranks, [](int rank) { return rank / 2; }, body);
  }
}

TrainedSteps train_with(const std::function<std::unique_ptr<Strategy>(Communicator&)>& make,
                        const ShardedCase& options, int steps) {
  Collected collected;
  TrainedSteps result;
  run_in_world(options, [&](Communicator& world) {
    const auto model = sharded_model(options);
    const auto strategy = make(world);
    const auto shards = strategy->attach(*model);
    OptimizerOptions chosen{.name = options.optimizer, .lr = 0.05};
    const auto optimizer = make_optimizer(chosen, shards);
    std::vector<double> losses, norms;
    const auto pass = [&](int step, std::int64_t worker) {
      const auto seed = static_cast<std::uint64_t>(1000 + step * 100 + worker);
      model->set_random_key(RandomKey{7, step, static_cast<int>(worker)});
      const at::Tensor words =
          random_tensor({kSamples}, seed).abs().mul(1000).to(at::kLong).remainder(kWords);
      return at::cross_entropy_loss(model->forward(words), words.flip(0));
    };
    for (int step = 0; step < steps; ++step) {
      strategy->begin();
      const Range mine = strategy->virtual_workers();
      for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
        strategy->backward(pass(step, worker));
      }
      losses.push_back(strategy->reduce_gradients().loss);
      norms.push_back(strategy->gradient_norm());
      if (step + 1 == steps) {
        for (const Shard& shard : shards) {
          if (!shard.has_gradient) continue;
          collected.add(
              "gradient." + shard.name, shard.region,
              {const_cast<void*>(shard.gradient.front()), shard.values.count, shard.values.dtype});
        }
      }
      optimizer->set_gradient_scale(0.5 / norms.back());
      strategy->update(*optimizer);
    }
    const at::NoGradGuard no_grad;
    model->train(false);
    const at::Tensor output = model->forward(at::arange(kWords));
    for (const Shard& shard : shards) collected.add(shard.name, shard.region, shard.values);
    for (const StateTensor& state : optimizer->state()) {
      collected.add("state." + state.name, state.region, state.values);
    }
    const at::Tensor flat = output.contiguous();
    std::string report = bytes_of(losses) + bytes_of(norms) + bytes_of(flat);
    for (const NamedTensor& fixed : strategy->fixed_tensors()) report += bytes_of(fixed.second);
    std::string replica;
    if (strategy->holds_parameters()) {
      for (const NamedTensor& one : model->tensors().parameters) replica += bytes_of(one.second);
    }
    collected.add_rank(std::move(report), std::move(replica));
    if (world.rank() == 0) {
      for (const auto& [name, tensor] : strategy->fixed_tensors()) {
        const at::Tensor stored = stored_view(tensor.detach());
        collected.add(name, Region(stored.sizes().vec()), host_buffer_of(stored));
      }
      result.losses = losses;
      result.norms = norms;
      result.outputs.assign(flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel());
    }
    world.barrier();
  });
  result.tensors = collected.sorted();
  result.reports = collected.reports();
  result.replicas = collected.replicas();
  return result;
}

TrainedSteps train_replicated(ShardedCase options, int steps) {
  options.ranks = 1;
  options.world = World::kOneHost;
  options.recompute = Recompute::kNone;
  return train_with(
      [&](Communicator& world) {
        return replicated(world, {.virtual_workers = options.virtual_workers});
      },
      options, steps);
}

TrainedSteps train_sharded(const ShardingOptions& sharding, const ShardedCase& options, int steps) {
  return train_with(
      [&](Communicator& world) {
        // Several buckets, of which some hold more than one parameter.
        return trireme::sharded(
            world, sharding, {.virtual_workers = options.virtual_workers, .bucket_bytes = 20'000});
      },
      options, steps);
}

}  // namespace trireme::test
