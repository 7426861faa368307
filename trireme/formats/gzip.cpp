#include "trireme/formats/gzip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "trireme/base/error.h"

namespace trireme {

namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 16;

class InflatingSource final : public ByteSource {
 public:
  InflatingSource(std::unique_ptr<ByteSource> compressed, std::string name)
      : compressed_(std::move(compressed)), name_(std::move(name)), chunk_(kChunkBytes) {
    constexpr int kGzipOnly = 16;
    if (::inflateInit2(&stream_, kGzipOnly + MAX_WBITS) != Z_OK) {
      throw DataError(fmt::format("{}: no memory to decompress it", name_));
    }
  }
  ~InflatingSource() override { ::inflateEnd(&stream_); }
  InflatingSource(const InflatingSource&) = delete;
  InflatingSource& operator=(const InflatingSource&) = delete;

  std::size_t read(std::span<char> out) override {
    std::size_t filled = 0;
    while (filled < out.size() && !done_) {
      const std::size_t piece = std::min<std::size_t>(out.size() - filled, 1u << 30);
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + filled);
      stream_.avail_out = static_cast<uInt>(piece);
      step();
      filled += piece - stream_.avail_out;
    }
    return filled;
  }

  std::int64_t at_most() const override {
    if (done_) return 0;
    constexpr std::int64_t kBestRatio = 1032;
    constexpr std::int64_t kWindowBytes = std::int64_t{1} << 15;  // inflated, not yet handed out
    const std::int64_t left = compressed_->at_most() + stream_.avail_in;
    constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
    return left > (kLargest - kWindowBytes) / kBestRatio ? kLargest
                                                         : left * kBestRatio + kWindowBytes;
  }

 private:
  // Moves on until the output is full, a chunk is used up or a member ends.
  void step() {
    const bool ended = stream_.avail_in == 0 && refill() == 0;
    done_ = ended && between_members_;
    if (done_) return;
    between_members_ = false;
    // At the end of the input too: output may still wait inside zlib.
    const int status = ::inflate(&stream_, Z_NO_FLUSH);
    if (status == Z_STREAM_END) {
      between_members_ = true;
      ::inflateReset(&stream_);
    } else if (status == Z_BUF_ERROR && ended) {
      throw DataError(
          fmt::format("{}: truncated: the gzip data ends in its middle, after {} compressed bytes",
                      name_, consumed_));
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      throw DataError(fmt::format("{}: damaged gzip data after {} compressed bytes: {}", name_,
                                  consumed_ - stream_.avail_in,
                                  stream_.msg != nullptr ? stream_.msg : "cannot be inflated"));
    }
  }

  std::size_t refill() {
    const std::size_t n = compressed_->read(chunk_);
    stream_.next_in = reinterpret_cast<Bytef*>(chunk_.data());
    stream_.avail_in = static_cast<uInt>(n);
    consumed_ += static_cast<std::int64_t>(n);
    return n;
  }

  std::unique_ptr<ByteSource> compressed_;
  std::string name_;
  std::vector<char> chunk_;
  z_stream stream_{};
  std::int64_t consumed_ = 0;
  bool between_members_ = false;
  bool done_ = false;
};

// A source with its first bytes, which were looked at, put back in front.
class Replayed final : public ByteSource {
 public:
  Replayed(std::string front, std::unique_ptr<ByteSource> rest)
      : front_(std::move(front)), rest_(std::move(rest)) {}

  std::size_t read(std::span<char> out) override {
    const std::size_t n = std::string_view(front_).substr(at_).copy(out.data(), out.size());
    at_ += n;
    return n + rest_->read(out.subspan(n));
  }

  std::int64_t at_most() const override {
    return rest_->at_most() + static_cast<std::int64_t>(front_.size() - at_);
  }

 private:
  std::string front_;
  std::size_t at_ = 0;
  std::unique_ptr<ByteSource> rest_;
};

}  // namespace

std::unique_ptr<ByteSource> inflate(std::unique_ptr<ByteSource> compressed, std::string name) {
  return std::make_unique<InflatingSource>(std::move(compressed), std::move(name));
}

std::unique_ptr<ByteSource> maybe_inflate(std::unique_ptr<ByteSource> source, std::string name) {
  std::string front(2, '\0');
  front.resize(source->read(front));
  const bool gzip = front == "\x1f\x8b";
  auto whole = std::make_unique<Replayed>(std::move(front), std::move(source));
  if (!gzip) return whole;
  return inflate(std::move(whole), std::move(name));
}

std::unique_ptr<ByteSource> open_maybe_gzip(const std::filesystem::path& path) {
  return maybe_inflate(open_file(path), path.string());
}

}  // namespace trireme
