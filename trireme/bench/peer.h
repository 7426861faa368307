#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/file_descriptor.h"
#include "trireme/bench/collective.h"

namespace trireme::bench {

/// The libraries with which trireme is compared: those that a user would use instead.
enum class PeerKind : std::uint8_t { kOpenMpi, kMpich, kGloo };

/// "openmpi", "mpich", "gloo".
std::string_view name_of(PeerKind kind);

/// Parses "openmpi,gloo". Throws UsageError, with the nearest name, for an unknown word.
std::vector<PeerKind> peers_named(std::string_view text);

/// Throws UsageError if the library has no such operation on that type.
void require_able(PeerKind kind, Collective collective, DType dtype);

/// Ranks of another library, as many as trireme has, in processes of their own on the same cores.
/// They sleep until a batch of calls is requested.
///
///     PeerRanks openmpi(PeerKind::kOpenMpi, {.programs = folder, .ranks = 2, .cores = {0, 1}});
///     openmpi.batch({Collective::kAllReduce, shape, DType::kF32}, 100);   // seconds a call
///
/// The programs are those of benchmarks/peers/. Each rank waits in read() of a pipe with a name,
/// and not in its library, which would poll; so it takes no time from the contender that is
/// measured between. Ranks end when the last writer of the pipe is gone, also if it was killed.
///
/// One process at a time may use it: the one that made it or one forked from it. The destructor
/// waits for the ranks' end.
class PeerRanks {
 public:
  struct Options {
    std::filesystem::path programs;  ///< the folder where the peers' programs lie
    int ranks = 1;
    std::vector<int> cores;  ///< rank r runs on cores[r % cores.size()]
  };
  struct Request {
    Collective collective;
    Shape shape;
    DType dtype;
  };

  /// Throws a UsageError that names the package to install if the library is missing, and a
  /// CommError with the last output of its ranks if they do not start.
  PeerRanks(PeerKind kind, const Options& options);
  ~PeerRanks();
  PeerRanks(const PeerRanks&) = delete;
  PeerRanks& operator=(const PeerRanks&) = delete;

  /// Makes the ranks call `calls` times and returns the seconds of one call on the slowest rank.
  /// Throws CommError if they have ended or do not answer within two minutes.
  double batch(const Request& request, int calls);

  PeerKind kind() const { return kind_; }

 private:
  void open_pipes(int ranks);
  void start(const std::vector<std::string>& command);
  double await_answers(double limit_seconds);
  void end();
  bool all_ended();
  [[noreturn]] void fail(const std::string& what);

  PeerKind kind_;
  std::filesystem::path folder_;  // of the pipes; removed once all ranks have opened them
  std::vector<FileDescriptor> requests_;
  FileDescriptor answers_;
  FileDescriptor output_;  // what the peer printed, without a name
  std::string partial_;    // of an answer
  std::vector<pid_t> processes_;
};

}  // namespace trireme::bench
