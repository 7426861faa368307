// Samples a second of a plain training loop through the library: the workload of pytorch_ddp.py.
//
//     trireme run -n RANKS --pin bench_train linear|mlp replicated|host_shared|independent
//     [seconds]
//
// linear  100 features, batch 32 a rank, SGD
// mlp     784-512-512-10, batch 64 a rank, SGD with momentum 0.9
//
// Each rank takes slices of its own random data, which stays in memory. With `independent` every
// rank trains a model of its own: single-rank runs side by side are the upper bound for training
// together. A window is a number of steps between two barriers; one line of JSON has the median and
// the quartiles over the windows, in samples a second of all ranks together.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"
#include "trireme/model/loss.h"
#include "trireme/model/make_model.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/replicated.h"
#include "trireme/tensor/named_tensors.h"
#include "trireme/world/connect.h"

namespace {

using trireme::Communicator;

constexpr int kWarmUpSteps = 50;
// Windows are short, so that a disturbance of the machine falls into few of them.
constexpr double kWindowSeconds = 0.05;
constexpr int kFewestWindows = 11;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Workload {
  trireme::ModelOptions model;
  trireme::Target target;
  double momentum = 0;
  std::int64_t samples = 0;
  std::int64_t inputs = 0;
  std::int64_t batch = 0;  // of one rank
};

Workload workload_named(std::string_view name) {
  if (name == "linear") {
    return {.model = {.name = "linear"}, .samples = 65536, .inputs = 100, .batch = 32};
  }
  if (name == "mlp") {
    return {.model = {.name = "mlp", .hidden = std::vector<std::int64_t>{512, 512}},
            .target = trireme::Target::one_of(10),
            .momentum = 0.9,
            .samples = 8192,
            .inputs = 784,
            .batch = 64};
  }
  throw trireme::UsageError(fmt::format("bench_train: no model \"{}\": linear or mlp", name));
}

trireme::Batch data_of(const Workload& work, int rank) {
  at::manual_seed(100 + static_cast<std::uint64_t>(rank));
  if (!work.target.is_numbers()) {
    return {at::rand({work.samples, work.inputs}),
            at::randint(work.target.classes, {work.samples}, at::kLong)};
  }
  const at::Tensor x = at::randn({work.samples, work.inputs});
  return {x, x.matmul(at::linspace(-1, 1, work.inputs)).unsqueeze(1)};
}

/// One rank's model, data and everything that a step needs.
class Training {
 public:
  Training(const Workload& work, std::unique_ptr<trireme::Strategy> strategy, int data_seed)
      : batch_(work.batch),
        data_(data_of(work, data_seed)),
        loss_(trireme::make_loss(work.target)),
        model_(trireme::make_model(work.model, std::vector{work.inputs}, work.target)),
        strategy_(std::move(strategy)),
        optimizer_(strategy_->attach(*model_), {.lr = 0.01, .momentum = work.momentum}) {}

  void step() {
    const at::Tensor input = data_.input.narrow(0, at_, batch_);
    const at::Tensor target = data_.target.narrow(0, at_, batch_);
    at_ = (at_ + batch_) % (data_.input.size(0) - batch_ + 1);
    strategy_->begin();
    strategy_->backward(loss_(model_->forward(input), target).sum.div(batch_));
    strategy_->reduce_gradients();
    strategy_->update(optimizer_);
  }

 private:
  std::int64_t batch_;
  std::int64_t at_ = 0;
  trireme::Batch data_;
  trireme::Loss loss_;
  std::unique_ptr<trireme::Model> model_;
  std::unique_ptr<trireme::Strategy> strategy_;
  trireme::Sgd optimizer_;
};

double time_window(Training& training, Communicator& world, int steps) {
  world.barrier();
  const double begin = now();
  for (int i = 0; i < steps; ++i) training.step();
  world.barrier();
  return (now() - begin) / steps;
}

// Returns the same number on every rank.
int steps_of_window(Training& training, Communicator& world) {
  for (int i = 0; i < kWarmUpSteps; ++i) training.step();
  double seconds = time_window(training, world, kWarmUpSteps);
  world.all_reduce({&seconds, 1, trireme::DType::kF64}, trireme::ReduceOp::kMax).wait();
  return std::max(1, static_cast<int>(kWindowSeconds / seconds));
}

std::unique_ptr<trireme::Strategy> strategy_named(const std::string& how, Communicator& world,
                                                  Communicator& alone) {
  if (how == "replicated") return trireme::replicated(world);
  if (how == "host_shared") return trireme::host_shared(world);
  if (how == "independent") return trireme::replicated(alone);
  throw trireme::UsageError("how must be replicated, host_shared or independent, got " + how);
}

void run(const std::string& model, const std::string& how, double seconds) {
  at::set_num_threads(1);
  at::globalContext().setFlushDenormal(true);
  const auto world = trireme::connect();
  const auto alone = trireme::self_communicator();
  const Workload work = workload_named(model);
  Training training(work, strategy_named(how, *world, *alone), world->rank());

  const int steps = steps_of_window(training, *world);
  const int windows = std::max(kFewestWindows, static_cast<int>(seconds / kWindowSeconds));
  std::vector<double> step_seconds;
  for (int i = 0; i < windows; ++i) step_seconds.push_back(time_window(training, *world, steps));
  std::sort(step_seconds.begin(), step_seconds.end());

  if (world->rank() > 0) return;
  const auto rate = [&](std::size_t quarter) {
    const double taken = step_seconds[step_seconds.size() * quarter / 4];
    return static_cast<double>(work.batch * world->size()) / taken;
  };
  fmt::print(
      "{{\"program\": \"trireme\", \"model\": \"{}\", \"how\": \"{}\", \"ranks\": {}, "
      "\"samples_per_second\": {:.0f}, \"quartiles\": [{:.0f}, {:.0f}], \"step_us\": {:.1f}, "
      "\"windows\": {}, \"steps_per_window\": {}}}\n",
      model, how, world->size(), rate(2), rate(3), rate(1),
      1e6 * step_seconds[step_seconds.size() / 2], windows, steps);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(
        stderr,
        "bench_train linear|mlp replicated|host_shared|independent [seconds]: a model and how the "
        "ranks train it\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argc > 3 ? std::atof(argv[3]) : 5);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
