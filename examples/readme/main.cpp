#include <torch/torch.h>
#include <trireme/trireme.h>

int main() {
  auto world = trireme::connect();
  torch::manual_seed(1);
  const auto inputs = torch::rand({4096, 8});
  const auto targets = inputs.sum(1, true);

  torch::nn::Linear model(8, 1);
  auto strategy = trireme::replicated(*world);
  strategy->attach(*model);
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  auto sampler = trireme::random_sampler(
      {.samples = 4096, .global_batch = 64, .virtual_workers = world->size(), .seed = 1});

  std::vector<std::int64_t> mine;
  for (int step = 0; step < 2000; ++step) {
    sampler->indices(step, world->rank(), mine);
    const auto rows = torch::tensor(mine);
    strategy->begin();
    const auto outputs = model->forward(inputs.index_select(0, rows));
    strategy->backward(torch::mse_loss(outputs, targets.index_select(0, rows)));
    strategy->reduce_gradients();
    strategy->update(optimizer);
  }
  const double loss = torch::mse_loss(model->forward(inputs), targets).item<double>();
  if (world->rank() == 0) std::cout << "loss " << loss << " on " << world->size() << " ranks\n";
  return loss < 1e-6 ? 0 : 1;
}
