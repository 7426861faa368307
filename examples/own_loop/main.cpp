// A loop of your own that is saved, stopped and resumed: docs/guides/own-loop.md explains it.
//
//   ./trireme run -n 2 examples/own_loop run 400     # Ctrl-C, and the same command again
//
// Result: run/model.safetensors, the same to the bit however often the loop was stopped, and on any
// number of ranks up to kWorkers.
#include <torch/torch.h>
#include <trireme/base/random.h>
#include <trireme/optim/adam.h>
#include <trireme/trireme.h>

#include <csignal>
#include <iostream>
#include <limits>

constexpr int kWorkers = 6;
constexpr std::uint64_t kSeed = 1;

namespace {
volatile std::sig_atomic_t interrupted = 0;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: own_loop DIRECTORY STEPS\n";
    return 2;
  }
  const std::filesystem::path directory = argv[1];
  const std::int64_t steps = std::stoll(argv[2]);
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { interrupted = 1; });
  const auto world = trireme::connect();
  torch::set_num_threads(1);

  torch::manual_seed(kSeed);
  const auto inputs = torch::randn({1200, 8});
  const auto targets = inputs.square().sum(1, true);
  torch::nn::Sequential model(torch::nn::Linear(8, 32), torch::nn::BatchNorm1d(32),
                              torch::nn::Tanh(), torch::nn::Dropout(0.1), torch::nn::Linear(32, 1));

  auto strategy = trireme::replicated(*world, {.virtual_workers = kWorkers});
  trireme::AdamW optimizer(strategy->attach(*model), {.weight_decay = 0.01});
  const auto schedule = trireme::make_schedule({.name = "cosine", .lr = 0.01, .total_steps = 400});
  const auto sampler = trireme::random_sampler(
      {.samples = 1200, .global_batch = 60, .virtual_workers = kWorkers, .seed = kSeed});

  trireme::LoopCheckpointer checkpoints(directory / "checkpoints", *world);
  checkpoints.add(*strategy, optimizer);
  const auto restored = checkpoints.restore();
  std::int64_t step = restored.state.step;  // 0: nothing has been saved yet
  double best_loss = std::numeric_limits<double>::max();
  if (step > 0) {
    best_loss = std::get<double>(restored.state.sections.at("loop").at("best_loss"));
  }
  if (world->rank() == 0) {
    std::cout << "from step " << step << " on " << world->size() << " ranks\n" << std::flush;
    for (const std::string& reason : restored.passed_over) std::cerr << reason << '\n';
  }

  bool stop = false;
  std::vector<std::int64_t> mine;
  while (step < steps && !stop) {
    strategy->begin(
        {.weight = static_cast<double>(sampler->count(step)), .request_stop = interrupted != 0});
    const trireme::Range workers = strategy->virtual_workers();
    for (auto worker = static_cast<int>(workers.begin); worker < workers.end; ++worker) {
      torch::manual_seed(trireme::mix_seed(kSeed, step, worker));  // of dropout
      sampler->indices(step, worker, mine);
      const auto rows = torch::tensor(mine);
      const auto outputs = model->forward(inputs.index_select(0, rows));
      strategy->backward(
          torch::mse_loss(outputs, targets.index_select(0, rows), torch::Reduction::Sum));
    }
    best_loss = std::min(best_loss, strategy->reduce_gradients().loss);
    optimizer.set_lr(schedule->lr_at(step));
    stop = strategy->update(optimizer).stop;  // the same on all ranks
    ++step;
    if (stop || step % 100 == 0 || step == steps) {
      checkpoints.save({.step = step, .sections = {{"loop", {{"best_loss", best_loss}}}}});
    }
  }

  if (step == steps && world->rank() == 0) {
    trireme::save_model(directory / "model.safetensors", trireme::tensors_of(*model));
    std::cout << "best loss " << best_loss << '\n';
  }
}
