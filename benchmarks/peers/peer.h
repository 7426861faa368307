#pragma once

// A rank of another library that `trireme bench --against` measures in turn with its own ranks
// (trireme/bench/peer.h has the other end). Stands alone: the libraries' own compilers build it.

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

namespace peer {

/// One batch: `calls` times `operation` on pieces of `count` elements of `dtype`.
struct Request {
  std::string operation;
  long long count = 0;
  std::string dtype;
  int calls = 0;

  bool same_data(const Request& other) const {
    return operation == other.operation && count == other.count && dtype == other.dtype;
  }
  bool sums() const { return operation == "all-reduce" || operation == "reduce-scatter"; }

  /// Elements of the larger of input and output.
  long long whole(int ranks) const {
    const bool pieces =
        operation == "all-gather" || operation == "reduce-scatter" || operation == "all-to-all";
    return pieces ? count * ranks : count;
  }
  int element_bytes() const {
    if (dtype == "f64" || dtype == "i64") return 8;
    if (dtype == "f32" || dtype == "i32") return 4;
    return dtype == "u8" ? 1 : 2;
  }
};

/// The operations of a peer's library.
class Library {
 public:
  virtual ~Library() = default;
  virtual void prepare(const Request& request) = 0;  ///< allocates the memory of the next calls
  virtual void call() = 0;
  virtual void barrier() = 0;
};

/// `cores`: "0,1"; rank r runs on the r-th, counted round.
inline void pin(const std::string& cores, int rank) {
  std::istringstream in(cores);
  cpu_set_t all[1024];
  int count = 0;
  for (std::string core; count < 1024 && std::getline(in, core, ','); ++count) {
    CPU_ZERO(&all[count]);
    CPU_SET(std::atoi(core.c_str()), &all[count]);
  }
  if (count > 0) sched_setaffinity(0, sizeof(cpu_set_t), &all[rank % count]);
}

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double seconds_a_call(Library& library, int calls) {
  // The first barrier wakes sleeping ranks, and after the second all ranks begin together.
  library.barrier();
  library.barrier();
  const double begin = now();
  for (int i = 0; i < calls; ++i) library.call();
  return (now() - begin) / calls;
}

/// Answers requests from FOLDER/rank-N on FOLDER/answers until the writer has closed the pipe.
/// Between requests it sleeps in read(), so that the library does not poll.
inline void serve(const std::string& folder, int rank, Library& library) {
  const std::string requests = folder + "/rank-" + std::to_string(rank);
  // The other end of both pipes is open already. If it has been closed, O_NONBLOCK turns it into an
  // error or the end of the file; without it open() would block forever.
  const int in_fd = ::open(requests.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const int out = ::open((folder + "/answers").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (in_fd < 0 || out < 0) {
    std::cerr << requests << ": cannot open\n";
    return;
  }
  ::fcntl(in_fd, F_SETFL, 0);
  std::FILE* in = ::fdopen(in_fd, "r");
  const auto answer = [&](double seconds) {
    char line[64];
    const int length = std::snprintf(line, sizeof line, "%.9e\n", seconds);
    return ::write(out, line, static_cast<std::size_t>(length)) == length;
  };
  answer(0);  // ready
  Request last;
  for (char line[256]; std::fgets(line, sizeof line, in) != nullptr;) {
    Request request;
    std::istringstream words(line);
    words >> request.operation >> request.count >> request.dtype >> request.calls;
    if (!request.same_data(last)) library.prepare(request);
    last = request;
    if (!answer(seconds_a_call(library, request.calls))) break;
  }
}

}  // namespace peer
