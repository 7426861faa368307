#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/file_descriptor.h"
#include "trireme/bench/collective.h"

namespace trireme::bench {

/// What trireme is held against: libraries that a user would pick instead.
enum class PeerKind : std::uint8_t { kOpenMpi, kMpich, kGloo };

/// "openmpi", "mpich", "gloo".
std::string_view name_of(PeerKind kind);

/// Of "openmpi,gloo". Throws UsageError, with the nearest name, for a word that is none.
std::vector<PeerKind> peers_named(std::string_view text);

/// Throws UsageError where the library has no such operation on that type.
void require_able(PeerKind kind, Collective collective, DType dtype);

/// As many ranks of another library as trireme has, in processes of their own on the same cores,
/// that sleep until they are asked for a batch of calls.
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

  /// Throws UsageError naming the package to install where the library is not there, CommError with
  /// its last words where its ranks do not start.
  PeerRanks(PeerKind kind, const Options& options);
  ~PeerRanks();
  PeerRanks(const PeerRanks&) = delete;
  PeerRanks& operator=(const PeerRanks&) = delete;

  /// Makes the ranks call `calls` times; the seconds of one on the slowest. Throws CommError if
  /// they have gone or do not answer within two minutes.
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
