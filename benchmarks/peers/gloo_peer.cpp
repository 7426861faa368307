// The operations of libtorch's Gloo, as a C++ program that uses c10d gets them, for
// `trireme bench --against gloo`:
//
//     gloo_peer FOLDER CORES RANK RANKS
//
// Gloo sums in place; its other operations go from one tensor to another.

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "peer.h"

namespace {

at::ScalarType type_of(const peer::Request& request) {
  // Data that is not summed is sent as bytes.
  if (!request.sums() || request.dtype == "u8") return at::kByte;
  if (request.dtype == "f64") return at::kDouble;
  if (request.dtype == "f16") return at::kHalf;
  if (request.dtype == "i32") return at::kInt;
  return request.dtype == "i64" ? at::kLong : at::kFloat;
}

class Gloo final : public peer::Library {
 public:
  Gloo(const std::string& folder, int rank, int ranks) : rank_(rank), ranks_(ranks) {
    auto options = c10d::ProcessGroupGloo::Options::create();
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    options->threads = 2;  // as c10d does by default
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(
        c10::make_intrusive<c10d::FileStore>(folder + "/store", ranks), rank, ranks, options);
  }

  void prepare(const peer::Request& request) override {
    request_ = request;
    const auto type = type_of(request);
    const std::int64_t units = request.sums() ? 1 : request.element_bytes();
    const std::int64_t piece = request.count * units;
    const auto zeros = [&](std::int64_t count) { return at::zeros({count}, at::dtype(type)); };
    out_ = {zeros(request.whole(ranks_) * units)};
    in_ = {zeros(request.operation == "all-gather" ? piece : request.whole(ranks_) * units)};
    pieces_ = {out_[0].split(request.operation == "all-gather" ? piece : out_[0].numel())};
  }

  void call() override {
    const std::string& operation = request_.operation;
    if (operation == "all-reduce") {
      group_->allreduce(out_)->wait();
    } else if (operation == "all-gather") {
      group_->allgather(pieces_, in_)->wait();
    } else if (operation == "broadcast") {
      group_->broadcast(out_)->wait();
    } else if (operation == "all-to-all") {
      std::vector<std::int64_t> even;
      group_->alltoall_base(out_[0], in_[0], even, even)->wait();
    } else if (ranks_ == 1) {
      out_[0].copy_(in_[0]);  // Gloo has no message to oneself
    } else {
      auto came = group_->recv(out_, (rank_ + ranks_ - 1) % ranks_, 0);
      group_->send(in_, (rank_ + 1) % ranks_, 0)->wait();
      came->wait();
    }
  }

  void barrier() override { group_->barrier()->wait(); }

 private:
  int rank_;
  int ranks_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  peer::Request request_;
  std::vector<at::Tensor> in_;
  std::vector<at::Tensor> out_;
  std::vector<std::vector<at::Tensor>> pieces_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "gloo_peer FOLDER CORES RANK RANKS: started by `trireme bench --against`\n";
    return 2;
  }
  const int rank = std::atoi(argv[3]);
  peer::pin(argv[2], rank);
  at::set_num_threads(1);
  Gloo gloo(argv[1], rank, std::atoi(argv[4]));
  peer::serve(argv[1], rank, gloo);
  // The file of the store has been removed, and its destructor would look for it.
  ::_exit(0);
}
