#include "trireme/checkpoint/chunk_reader.h"

#include <cstring>
#include <utility>

namespace trireme {

namespace {

// Above this, a read of its own costs less than a copy, and what lies between is not worth reading.
constexpr std::int64_t kLongBytes = 64 << 10;
constexpr std::size_t kMaxRuns = 1 << 14;  // that are read together

}  // namespace

ChunkReader::ChunkReader(const SafetensorsFile& file, std::string stored, Buffer out)
    : file_(file),
      stored_(std::move(stored)),
      out_(out),
      element_bytes_(static_cast<std::int64_t>(size_of(out.dtype))) {}

bool ChunkReader::fits(const CommonRun& run) const {
  if (waiting_.empty()) return true;
  if (waiting_.size() == kMaxRuns) return false;
  const std::int64_t gap = run.first - (waiting_.back().first + waiting_.back().count);
  const std::int64_t all = run.first + run.count - waiting_.front().first;
  return gap <= kLongBytes / element_bytes_ && all <= kBufferBytes / element_bytes_;
}

void ChunkReader::read(const CommonRun& run) {
  if (run.count > kLongBytes / element_bytes_) {
    file_.read(stored_, run.first, out_.slice(run.second, run.count));
    return;
  }
  if (!fits(run)) finish();
  waiting_.push_back(run);
}

void ChunkReader::finish() {
  if (waiting_.empty()) return;
  const std::int64_t first = waiting_.front().first;
  const std::int64_t count = waiting_.back().first + waiting_.back().count - first;
  memory_.resize(static_cast<std::size_t>(count * element_bytes_));
  const Buffer together{memory_.data(), count, out_.dtype};
  file_.read(stored_, first, together);
  for (const CommonRun& run : waiting_) {
    const Buffer from = together.slice(run.first - first, run.count);
    std::memcpy(out_.slice(run.second, run.count).data, from.data, from.bytes());
  }
  waiting_.clear();
}

}  // namespace trireme
