#include "trireme/launch/rank_output.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "trireme/base/error.h"

namespace trireme {
namespace {

constexpr std::size_t kCongestedBytes = 1 << 20;
constexpr std::size_t kReadBytes = 64 * 1024;

// A pipe holds at most 1 MiB by default. If more comes after the end of a rank, another process
// still writes to it.
constexpr int kMaxReadsAtEnd = 2 * (1 << 20) / kReadBytes;

// The visible text of "10%\r20%\r": what follows the last carriage return that has text after it.
std::string visible(std::string_view line) {
  while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const std::size_t start = line.rfind('\r');
  return std::string(start == std::string_view::npos ? line : line.substr(start + 1));
}

}  // namespace

Outlet::Outlet(std::unique_ptr<File> file, Outlet& fallback)
    : fd_(-1), file_(std::move(file)), fallback_(&fallback) {}

void Outlet::append(std::string_view bytes) {
  if (bytes.empty()) return;
  if (!given_up_) {
    waiting_ += bytes;
    in_line_ = bytes.back() != '\n';
  } else if (fallback_ != nullptr) {
    fallback_->append(bytes);
  }
}

void Outlet::end_line() {
  if (in_line_) append("\n");
}

bool Outlet::is_congested() const {
  return waiting_.size() > kCongestedBytes ||
         (given_up_ && fallback_ != nullptr && fallback_->is_congested());
}

void Outlet::write_some() {
  // A pipe that poll() has found writable accepts PIPE_BUF bytes without blocking.
  const std::size_t bytes = std::min<std::size_t>(waiting_.size(), PIPE_BUF);
  const ssize_t written = ::write(fd_, waiting_.data(), bytes);
  if (written >= 0) {
    waiting_.erase(0, static_cast<std::size_t>(written));
  } else if (errno != EINTR && errno != EAGAIN) {
    give_up(std::strerror(errno));
  }
}

void Outlet::write_file() {
  try {
    file_->append(waiting_);
    waiting_.clear();
  } catch (const DataError& error) {
    give_up(error.what());
  }
}

void Outlet::write_all() {
  if (file_ && is_waiting()) return write_file();
  while (is_waiting()) {
    pollfd ready{fd_, POLLOUT, 0};
    if (::poll(&ready, 1, -1) > 0) write_some();
  }
}

void Outlet::give_up(std::string_view why) {
  given_up_ = true;
  if (fallback_ != nullptr) {
    fallback_->end_line();
    fallback_->append(std::string(why) + "; its output goes on here\n");
    fallback_->append(waiting_);
  }
  waiting_.clear();
}

RankOutput::RankOutput(FileDescriptor pipe, Outlet& outlet, Passing passing, std::string prefix)
    : pipe_(std::move(pipe)), outlet_(&outlet), passing_(passing), prefix_(std::move(prefix)) {
  ::fcntl(pipe_.fd(), F_SETFL, ::fcntl(pipe_.fd(), F_GETFL) | O_NONBLOCK);
}

void RankOutput::read_some() {
  char bytes[kReadBytes];
  const ssize_t count = ::read(pipe_.fd(), bytes, sizeof bytes);
  if (count > 0) {
    take({bytes, static_cast<std::size_t>(count)});
  } else if (count == 0) {
    finish();
  }
}

void RankOutput::finish() {
  char bytes[kReadBytes];
  for (int i = 0; pipe_.is_open() && i < kMaxReadsAtEnd; ++i) {
    const ssize_t count = ::read(pipe_.fd(), bytes, sizeof bytes);
    if (count <= 0) break;
    take({bytes, static_cast<std::size_t>(count)});
  }
  pipe_.close();
  if (!line_.empty()) end_line();
}

std::vector<std::string> RankOutput::last_lines() const {
  return {last_lines_.begin(), last_lines_.end()};
}

void RankOutput::take(std::string_view bytes) {
  if (passing_ == Passing::kBytes) outlet_->append(bytes);
  while (!bytes.empty()) {
    const std::size_t room = kMaxLineBytes - line_.size();
    const std::size_t end = bytes.substr(0, room).find('\n');
    if (end != std::string_view::npos) {
      line_ += bytes.substr(0, end);
      bytes.remove_prefix(end + 1);
      end_line();
    } else {
      const std::size_t taken = std::min(room, bytes.size());
      line_ += bytes.substr(0, taken);
      bytes.remove_prefix(taken);
      if (line_.size() == kMaxLineBytes) end_line();
    }
  }
}

void RankOutput::end_line() {
  if (passing_ == Passing::kLines) {
    outlet_->end_line();
    outlet_->append(prefix_ + line_ + '\n');
  }
  last_lines_.push_back(visible(line_));
  if (last_lines_.size() > kKeptLines) last_lines_.pop_front();
  line_.clear();
}

}  // namespace trireme
