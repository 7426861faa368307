// Checkpoints of an AdamW state, on one rank: how long a step waits, how long writing and loading
// take, beside torch::save(), torch::load() and writing the same bytes with fsync(). Interleaved
// rounds.
//
//     bench_checkpoint FOLDER [megabytes] [rounds]
#include <ATen/ATen.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <torch/serialize.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/rounds.h"
#include "trireme/checkpoint/background_save.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/comm/self/self.h"
#include "trireme/tensor/named_tensors.h"

namespace {

namespace fs = std::filesystem;

using bench::seconds_of;

constexpr std::int64_t kRows = 1024, kColumns = 1024;  // 4 MiB a tensor
constexpr const char* kSlots[] = {"model", "optimizer.exp_avg", "optimizer.exp_avg_sq"};

struct State {
  std::vector<at::Tensor> tensors;
  std::vector<trireme::StateTensor> named;
  double bytes = 0;
};

State state_of(std::int64_t megabytes) {
  State state;
  const std::int64_t layers = std::max<std::int64_t>(1, megabytes / 12);
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    for (const char* slot : kSlots) {
      const at::Tensor tensor = at::randn({kRows, kColumns});
      state.tensors.push_back(tensor);
      state.named.push_back({.name = fmt::format("{}.{}.weight", slot, layer),
                             .region = trireme::Region({kRows, kColumns}),
                             .values = trireme::host_buffer_of(tensor)});
      state.bytes += static_cast<double>(tensor.nbytes());
    }
  }
  return state;
}

void write_plainly(const State& state, const fs::path& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  for (const at::Tensor& tensor : state.tensors) {
    if (::write(fd, tensor.data_ptr(), tensor.nbytes()) < 0) std::perror("write");
  }
  if (::fsync(fd) != 0) std::perror("fsync");
  ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: {} FOLDER [megabytes] [rounds]\n", argv[0]);
    return 2;
  }
  const fs::path folder = argv[1];
  const State state = state_of(argc > 2 ? std::atoll(argv[2]) : 384);
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 7;
  fs::create_directories(folder);
  const fs::path torch_file = folder / "torch.pt", plain_file = folder / "plain";
  const auto alone = trireme::self_communicator();
  trireme::BackgroundSave background(*alone);
  std::vector<double> stalls, backgrounds, saves, torch_saves, plains, loads, torch_loads;
  std::vector<double> stall_ratios, write_ratios, load_ratios;
  for (int round = -1; round < rounds; ++round) {
    const auto save = [&](trireme::Communicator& ranks,
                          std::span<const trireme::StateTensor> tensors) {
      trireme::save_checkpoint(folder, ranks, {.step = 1}, tensors, {});
    };
    const double plain = seconds_of([&] { write_plainly(state, plain_file); });
    const double saved = seconds_of([&] { save(*alone, state.named); });
    const double torch_saved = seconds_of([&] { torch::save(state.tensors, torch_file.string()); });
    const double stall = seconds_of([&] { background.start(state.named, save); });
    const double written = stall + seconds_of([&] { background.wait(); });
    const double loaded =
        seconds_of([&] { trireme::load_checkpoint(folder / "step-1", state.named); });
    std::vector<at::Tensor> read;
    const double torch_loaded = seconds_of([&] { torch::load(read, torch_file.string()); });
    if (round < 0) continue;  // warm-up
    stalls.push_back(stall);
    backgrounds.push_back(written);
    saves.push_back(saved);
    torch_saves.push_back(torch_saved);
    plains.push_back(plain);
    loads.push_back(loaded);
    torch_loads.push_back(torch_loaded);
    stall_ratios.push_back(torch_saved / stall);
    write_ratios.push_back(plain / saved);
    load_ratios.push_back(torch_loaded / loaded);
  }
  fmt::print("{:.0f} MB, {} rounds; ms, with quartiles\n", state.bytes / 1e6, rounds);
  bench::print_row("the step waits (checkpoint.background)", stalls, 1e3);
  bench::print_row("until that is on the disk", backgrounds, 1e3);
  bench::print_row("save_checkpoint()", saves, 1e3);
  bench::print_row("torch::save(), no fsync", torch_saves, 1e3);
  bench::print_row("write() of the bytes, fsync()", plains, 1e3);
  bench::print_row("load_checkpoint()", loads, 1e3);
  bench::print_row("torch::load()", torch_loads, 1e3);
  bench::print_row("ratio: torch::save() / the step waits", stall_ratios, 1);
  bench::print_row("ratio: write() / save_checkpoint()", write_ratios, 1);
  bench::print_row("ratio: torch::load() / load_checkpoint()", load_ratios, 1);
  fs::remove_all(folder / "step-1");
  fs::remove(torch_file);
  fs::remove(plain_file);
}
