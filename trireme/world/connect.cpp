#include "trireme/world/connect.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/comm/hierarchical/hierarchical.h"
#include "trireme/comm/mpi/mpi.h"
#include "trireme/comm/nccl/nccl.h"
#include "trireme/comm/self/self.h"
#include "trireme/comm/shm/world.h"
#include "trireme/world/c10d/gloo.h"
#include "trireme/world/cuda_stream.h"

namespace trireme {

namespace {

std::string description(const RankEnvironment& environment) {
  return fmt::format("{} say that this is rank {} of {}", environment.variables, environment.rank,
                     environment.world_size);
}

// The descriptor is valid on one host. On several hosts `trireme run` sets it too, and it is not
// used.
bool has_shared_world(const RankEnvironment& environment) {
  return environment.world_fd &&
         environment.local_world_size.value_or(environment.world_size) == environment.world_size;
}

bool is_of_mpi(const RankEnvironment& environment) {
  return environment.starter == Starter::kOpenMpi || environment.starter == Starter::kPmi ||
         environment.speaks_pmix;
}

bool has_mpi(const RankEnvironment& environment) {
  return !mpi::library().empty() && is_of_mpi(environment);
}

[[noreturn]] void refuse_unknown_starter(const RankEnvironment& environment) {
  const bool lacks_mpi = mpi::library().empty() && is_of_mpi(environment);
  throw UsageError(fmt::format(
      "connect: {}, and {}. Set MASTER_ADDR and MASTER_PORT to rank 0's host and a free port "
      "there{}, or start the ranks by {}trireme run -n {} program",
      description(environment),
      lacks_mpi ? "this trireme was built without MPI" : "nothing says how the ranks meet",
      lacks_mpi ? fmt::format(" (Gloo), get MPI ({})", mpi::how_to_get()) : "",
      mpi::library().empty() ? "" : "mpirun or by ", environment.world_size));
}

constexpr std::chrono::milliseconds kUsualTimeout = std::chrono::minutes(30);
constexpr std::chrono::milliseconds kLeastSilence{3000};
constexpr std::chrono::milliseconds kLongestMeeting = std::chrono::minutes(5);

std::chrono::milliseconds timeout_of(const RankEnvironment& environment,
                                     const ConnectOptions& options) {
  const auto timeout = options.timeout ? options.timeout : environment.timeout;
  if (timeout && timeout->count() <= 0) {
    throw UsageError(
        fmt::format("connect: the timeout must be positive, got {} ms", timeout->count()));
  }
  return timeout.value_or(kUsualTimeout);
}

// A program that a rank has started inherits the variable, and often not the descriptor.
shm::World open_shared_world(int fd) {
  const auto with_variable = [fd](const std::exception& error) {
    return fmt::format(
        "connect: {}; TRIREME_WORLD_FD={} names it: start the ranks by trireme run, or unset "
        "TRIREME_WORLD_FD, RANK and WORLD_SIZE for a world of one",
        error.what(), fd);
  };
  try {
    return shm::World::open(fd);
  } catch (const UsageError& error) {
    throw UsageError(with_variable(error));
  } catch (const DataError& error) {
    throw DataError(with_variable(error));
  }
}

std::unique_ptr<Communicator> join_shared_world(const RankEnvironment& environment,
                                                const ConnectOptions& options) {
  if (!environment.world_fd) {
    throw UsageError(fmt::format(
        "connect: backend shm needs the shared memory of trireme's launcher, and TRIREME_WORLD_FD "
        "is not set; {}. Start the ranks by trireme run, or use backend auto",
        description(environment)));
  }
  shm::World world = open_shared_world(*environment.world_fd);
  if (world.size() != environment.world_size) {
    throw UsageError(fmt::format(
        "connect: WORLD_SIZE must be {}, the ranks of the shared world, got {}; leave the "
        "variables as the launcher sets them",
        world.size(), environment.world_size));
  }
  return world.join(environment.rank, timeout_of(environment, options));
}

std::unique_ptr<message::Transport> meet_by_gloo(const RankEnvironment& environment,
                                                 const ConnectOptions& options) {
  if (!environment.meeting) refuse_unknown_starter(environment);
  c10d::Rendezvous rendezvous;
  rendezvous.rank = environment.rank;
  rendezvous.world_size = environment.world_size;
  rendezvous.master_address = environment.meeting->address;
  rendezvous.master_port = environment.meeting->port;
  rendezvous.store_is_served = environment.meeting->is_served;
  rendezvous.job = environment.job;
  rendezvous.secret = environment.secret;
  rendezvous.is_one_host = environment.local_world_size == environment.world_size;
  rendezvous.attempt = environment.meeting->attempt;
  rendezvous.interface_address = options.interface_address;
  rendezvous.on_notice = options.on_notice;
  rendezvous.timeout = std::min(kLongestMeeting, timeout_of(environment, options));
  return c10d::gloo(rendezvous);
}

// The processes of one mpirun on a host; those of MPICH have the same parent.
std::string mpi_job() {
  return process_environment("PMIX_NAMESPACE").value_or(fmt::format("{}", ::getppid()));
}

std::unique_ptr<message::Transport> meet_by_mpi(const RankEnvironment& environment,
                                                const ConnectOptions& options) {
  auto transport = mpi::world({.timeout = std::min<std::chrono::milliseconds>(
                                   kLongestMeeting, timeout_of(environment, options)),
                               .job = mpi_job(),
                               .rank = environment.rank,
                               .size = environment.world_size,
                               .ranks_of_host = environment.local_world_size.value_or(0)});
  if (transport->size() != environment.world_size || transport->rank() != environment.rank) {
    throw UsageError(fmt::format(
        "connect: {}, MPI ({}) says rank {} of {}: start the program by the mpirun of that MPI",
        description(environment), mpi::library(), transport->rank(), transport->size()));
  }
  return transport;
}

std::unique_ptr<Communicator> connect_by(const std::string& backend,
                                         const RankEnvironment& environment,
                                         const ConnectOptions& options) {
  if (options.heartbeat_timeout.count() != 0 && options.heartbeat_timeout < kLeastSilence) {
    throw UsageError(fmt::format(
        "connect: the heartbeat timeout must be 0 or at least {} ms, three heartbeats, got {} ms",
        kLeastSilence.count(), options.heartbeat_timeout.count()));
  }
  const message::Options messages{.timeout = timeout_of(environment, options),
                                  .heartbeat_timeout = options.heartbeat_timeout,
                                  .native = !options.reproducible};
  if (backend == "self") return self_communicator();
  if (backend == "shm") return join_shared_world(environment, options);
  if (backend == "mpi") return hierarchical(meet_by_mpi(environment, options), messages);
  return hierarchical(meet_by_gloo(environment, options), messages);
}

}  // namespace

std::unique_ptr<Communicator> connect(const ConnectOptions& options) {
  return connect(read_environment(), options);
}

std::string backend_for(const RankEnvironment& environment, const ConnectOptions& options) {
  if (options.backend != "auto") {
    for (const char* known : {"shm", "mpi", "gloo"}) {
      if (options.backend == known) return environment.world_size == 1 ? "self" : known;
    }
    throw UsageError(
        fmt::format("connect: backend must be \"auto\", \"shm\", \"mpi\" or \"gloo\", got \"{}\"",
                    options.backend));
  }
  if (has_shared_world(environment)) return "shm";
  if (environment.world_size == 1) return "self";
  if (has_mpi(environment)) return "mpi";
  if (environment.meeting) return "gloo";
  refuse_unknown_starter(environment);
}

std::unique_ptr<Communicator> connect(const RankEnvironment& environment,
                                      const ConnectOptions& options) {
  auto world = connect_by(backend_for(environment, options), environment, options);
  ConnectOptions devices = options;
  devices.timeout = timeout_of(environment, options);
  carry_devices(*world, devices);
  return world;
}

std::string warning_for(const RankEnvironment& environment, const ConnectOptions& options) {
  if (!environment.note.empty()) return environment.note;
  if (environment.rank != 0 || environment.world_fd || !environment.meeting ||
      environment.meeting->is_served || environment.secret.is_given() ||
      backend_for(environment, options) != "gloo") {
    return {};
  }
  const std::string& address = environment.meeting->address;
  const bool is_one_host = environment.local_world_size == environment.world_size ||
                           address.starts_with("127.") || address == "::1" ||
                           address == "localhost";
  if (is_one_host) return {};
  return fmt::format(
      "the ranks of several hosts meet at {}:{} without a secret, so that any program that reaches "
      "it can join them; name the file of one in TRIREME_JOB_SECRET_FILE on all hosts "
      "(docs/security.md)",
      address, environment.meeting->port);
}

void carry_devices(Communicator& world, const ConnectOptions& options) {
  nccl::carry_devices(world, {.timeout = options.timeout.value_or(kUsualTimeout),
                              .reproducible = options.reproducible,
                              .stream = libtorch_stream()});
}

std::vector<std::string> available_backends() {
  std::vector<std::string> backends = {"self", "shm", "gloo"};
  if (!mpi::library().empty()) backends.push_back(fmt::format("mpi ({})", mpi::library()));
  if (!nccl::library().empty()) backends.push_back(fmt::format("nccl ({})", nccl::library()));
  return backends;
}

}  // namespace trireme
