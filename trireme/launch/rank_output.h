#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/file_descriptor.h"
#include "trireme/base/files.h"

namespace trireme {

/// A queue of bytes for a pipe or terminal that may not accept them at once, so that a slow reader
/// does not keep the launcher from noticing the end of a rank; or for a file.
class Outlet {
 public:
  /// Borrows `fd`. Bytes are dropped after an error, such as a pipe whose reader is gone.
  explicit Outlet(int fd) : fd_(fd) {}

  /// For a file, which write_all() writes. After an error, such as a full disk, bytes go to
  /// `fallback`.
  Outlet(std::unique_ptr<File> file, Outlet& fallback);

  void append(std::string_view bytes);

  /// Starts a new line unless the last byte appended ended one.
  void end_line();

  int fd() const { return fd_; }  ///< -1: of a file
  bool is_waiting() const { return !waiting_.empty(); }

  /// True if the queue is so long that its sources should pause.
  bool is_congested() const;

  /// Must be called when poll() has found fd() writable: then it does not block.
  void write_some();

  /// Blocks until all is written.
  void write_all();

 private:
  void write_file();
  void give_up(std::string_view why);

  int fd_;
  std::unique_ptr<File> file_;
  Outlet* fallback_ = nullptr;
  bool given_up_ = false;
  bool in_line_ = false;
  std::string waiting_;
};

/// One of a rank's two output pipes. Cuts the output into lines and passes them on.
class RankOutput {
 public:
  static constexpr std::size_t kKeptLines = 20;
  static constexpr std::size_t kMaxLineBytes = std::size_t{16} * 1024;  ///< a longer line is cut

  enum class Passing {
    kBytes,  ///< at once and unchanged, including lines that have not ended
    kLines,  ///< whole lines, each after the prefix
  };

  /// Owns `pipe`, the read end, and makes it non-blocking.
  RankOutput(FileDescriptor pipe, Outlet& outlet, Passing passing, std::string prefix);

  int fd() const { return pipe_.fd(); }
  bool wants_to_read() const { return pipe_.is_open() && !outlet_->is_congested(); }

  /// Reads at most one buffer of what is available. Closes the pipe at the end of the stream.
  void read_some();

  /// Must be called when the rank has ended. Reads the rest, ends the last line and closes the
  /// pipe.
  void finish();

  /// At most kKeptLines. Of a line with carriage returns, the text that was visible at its end.
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
