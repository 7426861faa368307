#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/kernels/compress.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/optim/schedule.h"
#include "trireme/plan/recompute.h"

namespace trireme::plan {

/// Every rank has all parameters; gradients are all-reduced.
struct Replicated {};

/// ZeRO (Rajbhandari et al. 2020): as replicated, but each rank holds a part of the optimizer's
/// state, from stage 2 on of the gradients, and in stage 3 of the parameters.
struct Sharded {
  int stage = 1;
  bool within_host = false;       ///< the parts are those of the ranks of a host
  bool whole_parameters = false;  ///< no parameter is cut: the optimizer needs it whole
};

/// The ranks of a host share one copy of the parameters; each rank updates its part.
struct HostShared {};

/// Groups of ranks train alone for some steps and then synchronize: local SGD and DiLoCo.
struct LocalSteps {
  int group_size = 1;  ///< ranks in a row; 0: the ranks of a host
  int steps = 16;
  double outer_lr = 1;
  double outer_momentum = 0;
  int fragments = 1;
  int delay = 0;
  double mix = 0.5;
};

/// Workers push gradients to servers, which hold parameters and optimizer state, and pull
/// parameters.
struct ParameterServer {
  struct Synchronous {};
  struct BackupWorkers {
    int count = 1;  ///< of a step, that the servers do not wait for
  };
  struct BoundedStaleness {
    int steps = 3;
  };
  struct Asynchronous {};
  using Consistency = std::variant<Synchronous, BackupWorkers, BoundedStaleness, Asynchronous>;

  Consistency consistency;
  int group_size = 1;     ///< ranks in a row that are one worker; 0: the ranks of a host
  int server_shards = 1;  ///< servers in rank 0, if `addresses` is empty
  std::vector<std::string> addresses;
  int replicas = 0;
  std::string secret_key;
  std::vector<std::string> server_keys;
};

using DataParallel = std::variant<Replicated, Sharded, HostShared, LocalSteps, ParameterServer>;

/// "replicated", "sharded", "host_shared", "local_steps" or "parameter_server"
std::string_view name_of(const DataParallel& way);

/// The size of each axis of the mesh of ranks.
struct MeshShape {
  int data = 1;
  int pipeline = 1;
  int context = 1;
  int tensor = 1;

  int ranks() const { return data * pipeline * context * tensor; }
};

/// How the samples of a step are distributed.
struct Batch {
  std::int64_t global_batch = 0;  ///< samples
  int virtual_workers = 1;        ///< of the step, at least one for each data coordinate
  std::vector<double> shares;     ///< relative speed of each data coordinate; empty: all are equal
  bool measure_shares = false;    ///< before the first step
};

struct Transport {
  std::string backend;  ///< "auto", "shm", "mpi" or "gloo"
  bool reproducible = true;
  std::string interface_address;
  std::chrono::milliseconds timeout{};
  std::chrono::milliseconds heartbeat_timeout{};
};

/// The types of a run's numbers.
struct Precision {
  DType storage = DType::kF32;    ///< of data, parameters and most of what is computed
  DType compute = DType::kF32;    ///< to which matrices are rounded before they are multiplied
  DType reduction = DType::kF32;  ///< in which gradients are summed, also over ranks
  DType optimizer_state = DType::kF32;  ///< momentum and the like
  /// The processors of all ranks multiply bf16; if not, rounded matrices are multiplied in f32.
  bool has_bf16_products = false;
  bool stochastic_rounding = false;  ///< parameters have values of bf16 after each update
  double loss_scale = 1;             ///< the first, in f16
  std::int64_t loss_scale_growth_steps = 0;
};

/// How a configuration trains on a number of ranks, checked and typed: what checks, command line
/// and runtime share.
struct RunPlan {
  MeshShape mesh;
  DataParallel data_parallel;
  CompressionOptions compression;
  std::int64_t bucket_bytes = 0;
  Batch batch;
  Transport transport;
  Precision precision;
  Recompute recompute = Recompute::kNone;
  OptimizerOptions optimizer;
  double clip_value = 0;
  ScheduleOptions schedule;  ///< total_steps is not known before the data is

  /// Returns true if ranks (or groups) never wait for each other but through servers. The run then
  /// survives the loss of any rank but the first.
  bool is_asynchronous() const;
};

}  // namespace trireme::plan
