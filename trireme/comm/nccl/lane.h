#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <optional>

#include "trireme/comm/communicator.h"
#include "trireme/comm/device_lane.h"
#include "trireme/comm/nccl/link.h"
#include "trireme/comm/nccl/messages.h"
#include "trireme/comm/nccl/nccl.h"

namespace trireme::nccl {

/// The device lane of one communicator. Collectives are queued on a stream of its own, in the order
/// of the calls, each once the communicator has found that all ranks call it alike: so NCCL never
/// waits for a rank that does not come, or that calls something else. Messages have streams of
/// their own.
class Lane final : public DeviceLane {
 public:
  Lane(Communicator& communicator, Options options);
  ~Lane() override;

  void check(const Operation& operation) override;
  Work start(const Operation& operation, Work matched) override;
  Work watch(const Operation& operation, Work work) override;
  void progress() override { advance(); }
  Memory allocate(std::size_t bytes) override;
  Traffic traffic() const override { return traffic_; }
  std::unique_ptr<DeviceLane> lane_of(Communicator& part) const override;

 private:
  class CollectiveWork;
  class MessageWork;
  class WatchedWork;

  struct Pending {
    Operation operation;
    Work matched;
    cuda::Event ready;  // what the caller had queued before
    cuda::Event done;
    bool is_queued = false;
    Deadline deadline;
  };

  void check(const Operation& operation, const char* what, const Buffer& x);
  Work start_collective(const Operation& operation, Work matched);
  Work start_message(const Operation& operation, Work matched);
  void refuse(int sender, std::uint64_t number);
  void wait_beside(Work& work);
  bool is_settled() const;
  void connect();
  void advance();
  void queue(Pending& pending);
  void wait_for(std::uint64_t number);
  void wait_for(std::uint64_t number, cudaStream_t stream);
  template <class Done>
  void wait_for(const Transfer& transfer, Done done);
  [[noreturn]] void throw_late(const Transfer& transfer, bool is_agreed) const;
  void throw_if_over() const;
  void close(bool is_idle);
  [[noreturn]] void end();
  bool drain();
  cudaStream_t stream_of_caller() const;

  Communicator& communicator_;
  Options options_;
  Watch watch_;
  int device_ = -1;  // of the first buffer, then of all
  std::optional<cuda::Stream> stream_;
  std::optional<Link> link_;
  std::deque<Pending> pending_;
  std::uint64_t started_ = 0;
  std::uint64_t finished_ = 0;
  Messages messages_;
  Traffic traffic_;
  std::exception_ptr error_;
};

}  // namespace trireme::nccl
