#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/file_descriptor.h"

namespace trireme {

/// Bytes on their way to a file, pipe or terminal that may not take them at once, so that a reader
/// who pauses does not keep the launcher from noticing a death.
class Outlet {
 public:
  /// Borrows `fd`. Bytes that it refuses for good (nobody reads the pipe any more) are dropped.
  explicit Outlet(int fd) : fd_(fd) {}

  /// Owns the file `fd` called `name`; what it refuses (a full disk) goes to `fallback` instead.
  Outlet(FileDescriptor fd, std::string name, Outlet& fallback);

  void append(std::string_view bytes);

  /// Starts a new line unless the last byte appended ended one.
  void end_line();

  int fd() const { return fd_; }
  bool is_waiting() const { return !waiting_.empty(); }

  /// So much is waiting that its sources should pause.
  bool is_congested() const;

  /// Call when poll() says that fd() takes bytes: then this does not block.
  void write_some();

  /// Blocks until all is written.
  void write_all();

 private:
  void give_up(int error);

  int fd_;
  FileDescriptor owned_;
  std::string name_;
  Outlet* fallback_ = nullptr;
  bool given_up_ = false;
  bool in_line_ = false;
  std::string waiting_;
};

/// One of a rank's two output pipes: cuts what comes into lines and passes them on.
class RankOutput {
 public:
  static constexpr std::size_t kKeptLines = 20;
  static constexpr std::size_t kMaxLineBytes = 16 * 1024;  ///< a longer line is cut

  enum class Passing {
    kBytes,  ///< at once and unchanged, progress lines without an end included
    kLines,  ///< whole lines, each behind the prefix
  };

  /// Owns `pipe`, the end to read from, and makes it non-blocking.
  RankOutput(FileDescriptor pipe, Outlet& outlet, Passing passing, std::string prefix);

  int fd() const { return pipe_.fd(); }
  bool wants_to_read() const { return pipe_.is_open() && !outlet_->is_congested(); }

  /// Reads what is there, up to one buffer; closes at the end of the stream.
  void read_some();

  /// The rank has ended: reads all that it left, ends its last line and closes.
  void finish();

  /// At most kKeptLines; of a line that was overwritten with carriage returns, what was last seen.
  std::vector<std::string> last_lines() const;

 private:
  void take(std::string_view bytes);
  void end_line();

  FileDescriptor pipe_;
  Outlet* outlet_;
  Passing passing_;
  std::string prefix_;
  std::string line_;
  std::deque<std::string> last_lines_;
};

}  // namespace trireme
