#include "trireme/kernels/compress.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/kernels/cast.h"
#include "trireme/kernels/compress/int8.h"
#include "trireme/kernels/compress/linear.h"
#include "trireme/kernels/compress/power_sgd.h"
#include "trireme/kernels/compress/random_k.h"
#include "trireme/kernels/compress/sign.h"
#include "trireme/kernels/compress/top_k.h"
#include "trireme/kernels/compress/wire.h"

namespace trireme {

using compress::Codec;
using compress::Header;
using compress::Int8;
using compress::LowRank;
using compress::RandomK;
using compress::Sign;
using compress::TopK;

namespace {

// In the order of Codec.
constexpr std::array<std::string_view, 8> kCodecs = {"none",  "bf16",     "f16",       "int8",
                                                     "top_k", "random_k", "power_sgd", "sign"};
constexpr int kMostRank = 64;

bool takes_share(Codec codec) {
  return codec == Codec::kTopK || codec == Codec::kRandomK;
}

DType half_of(Codec codec) {
  return codec == Codec::kBF16 ? DType::kBF16 : DType::kF16;
}

// Works on blocks that fit the first-level cache.
void add_halves(const std::byte* body, DType dtype, std::int64_t count, float* sum, float factor) {
  constexpr std::int64_t kBlock = 1024;
  std::array<float, kBlock> wide;
  for (std::int64_t i = 0; i < count; i += kBlock) {
    const std::int64_t here = std::min(kBlock, count - i);
    auto* const halves = const_cast<std::byte*>(body + i * sizeof(std::uint16_t));
    widen({halves, here, dtype}, wide.data());
    compress::add_scaled(sum + i, wide.data(), factor, here);
  }
}

void add_values(float* sum, const Buffer& values) {
  if (values.dtype == DType::kF32) {
    compress::add_scaled(sum, values.data, 1, values.count);
  } else {
    const auto* from = values.as<const double>();
    for (std::int64_t i = 0; i < values.count; ++i) sum[i] += static_cast<float>(from[i]);
  }
}

[[noreturn]] void refuse(std::string_view why) {
  throw DataError(fmt::format("compressed values: {}; the sender must be of this version", why));
}

void require_bytes(std::uint64_t wanted, std::size_t got, Codec codec) {
  if (wanted == got) return;
  refuse(fmt::format("{} must have {} bytes behind its header, got {}",
                     kCodecs[static_cast<std::size_t>(codec)], wanted, got));
}

Header header_of(std::span<const std::byte> payload, std::int64_t count) {
  if (payload.size() < sizeof(Header)) {
    refuse(fmt::format("a header has {} bytes, got {}", sizeof(Header), payload.size()));
  }
  const auto header = compress::load<Header>(payload.data());
  if (header.version != 1 || header.zero != 0 || header.codec >= kCodecs.size()) {
    refuse(fmt::format("no codec {} of version {} is known", header.codec, header.version));
  }
  if (header.count != static_cast<std::uint64_t>(count)) {
    refuse(fmt::format("{} values were wanted, got {}", count, header.count));
  }
  const auto codec = static_cast<Codec>(header.codec);
  const std::uint64_t most = takes_share(codec)          ? header.count
                             : codec == Codec::kPowerSgd ? kMostRank
                                                         : 0;
  if (header.parameter > most) {
    refuse(fmt::format("{} of {} values cannot have the parameter {}", kCodecs[header.codec],
                       header.count, header.parameter));
  }
  return header;
}

}  // namespace

std::span<const std::string_view> compression_codecs() {
  return kCodecs;
}

void check(const CompressionOptions& options) {
  if (std::find(kCodecs.begin(), kCodecs.end(), options.codec) == kCodecs.end()) {
    throw UsageError(fmt::format("compression: the codec must be one of \"{}\", got \"{}\"",
                                 fmt::join(kCodecs, "\", \""), options.codec));
  }
  if (!(options.ratio > 0 && options.ratio <= 1)) {
    throw UsageError(fmt::format(
        "compression: the ratio must be a number above 0 and up to 1, got {}", options.ratio));
  }
  if (options.rank < 1 || options.rank > kMostRank) {
    throw UsageError(fmt::format("compression: the rank must be a number from 1 to {}, got {}",
                                 kMostRank, options.rank));
  }
}

struct Compressor::State {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  Header header;
  std::int64_t k = 0;
  LowRank low_rank;
  std::vector<float> residual;
  std::vector<float> factor;

  Codec codec() const { return static_cast<Codec>(header.codec); }
  std::int64_t count() const { return static_cast<std::int64_t>(header.count); }
  std::uint64_t seed_of(std::int64_t step) const {
    return mix_seed(seed, stream, static_cast<std::uint64_t>(step));
  }

  std::uint64_t body_bytes() const {
    switch (codec()) {
      case Codec::kNone:
        return header.count * sizeof(float);
      case Codec::kBF16:
      case Codec::kF16:
        return header.count * sizeof(std::uint16_t);
      case Codec::kInt8:
        return Int8::bytes(count());
      case Codec::kTopK:
        return TopK::bytes(k);
      case Codec::kRandomK:
        return RandomK::bytes(k);
      case Codec::kPowerSgd:
        return low_rank.bytes();
      case Codec::kSign:
        return Sign::bytes(count());
    }
    return 0;
  }

  bool leaves_out() const {
    return codec() != Codec::kNone && !(codec() == Codec::kPowerSgd && low_rank.rows == 0);
  }

  void write_body(const float* x, std::int64_t step, std::byte* body) {
    switch (codec()) {
      case Codec::kNone:
        return compress::store_all(body, x, count());
      case Codec::kBF16:
      case Codec::kF16:
        return narrow(x, {body, count(), half_of(codec())});
      case Codec::kInt8:
        return Int8::encode(x, count(), body);
      case Codec::kTopK:
        return TopK::encode(x, count(), k, body);
      case Codec::kRandomK:
        return RandomK::encode(x, count(), k, seed_of(step), body);
      case Codec::kPowerSgd:
        return low_rank.encode(x, factor, seed_of(step), body);
      case Codec::kSign:
        return Sign::encode(x, count(), body);
    }
  }
};

Compressor::Compressor(const CompressionOptions& options, std::span<const std::int64_t> shape,
                       Range slice, std::uint64_t stream)
    : state_(std::make_unique<State>()) {
  check(options);
  std::int64_t elements = 1;
  for (const std::int64_t extent : shape) elements *= extent;
  if (slice.begin < 0 || slice.size() < 0 || slice.end > elements) {
    throw UsageError(fmt::format("compression: [{}, {}) is no slice of a tensor of {} elements",
                                 slice.begin, slice.end, elements));
  }
  State& s = *state_;
  const auto codec = std::find(kCodecs.begin(), kCodecs.end(), options.codec) - kCodecs.begin();
  s.seed = options.seed;
  s.stream = stream;
  s.header.codec = static_cast<std::uint8_t>(codec);
  s.header.count = static_cast<std::uint64_t>(slice.size());
  if (takes_share(s.codec())) {
    if (s.header.count > std::numeric_limits<std::uint32_t>::max()) {
      throw UsageError(
          fmt::format("compression: {} is for slices below 2^32 elements, got {}; use another "
                      "codec for this tensor",
                      options.codec, slice.size()));
    }
    s.k = std::clamp<std::int64_t>(std::llround(options.ratio * static_cast<double>(slice.size())),
                                   std::min<std::int64_t>(1, slice.size()), slice.size());
    s.header.parameter = static_cast<std::uint32_t>(s.k);
  }
  if (s.codec() == Codec::kPowerSgd) {
    s.low_rank = LowRank::of(shape, slice, options.rank);
    s.header.parameter = static_cast<std::uint32_t>(s.low_rank.rank);
    s.factor.resize(static_cast<std::size_t>(s.low_rank.rank * s.low_rank.columns));
    for (std::int64_t j = 0; j < s.low_rank.rank; ++j)
      s.low_rank.draw(s.factor.data(), j, s.seed_of(-1));
  }
  if (s.leaves_out()) s.residual.resize(static_cast<std::size_t>(slice.size()));
}

Compressor::~Compressor() = default;
Compressor::Compressor(Compressor&&) noexcept = default;
Compressor& Compressor::operator=(Compressor&&) noexcept = default;

std::int64_t Compressor::count() const {
  return state_->count();
}

std::size_t Compressor::bytes() const {
  return sizeof(Header) + static_cast<std::size_t>(state_->body_bytes());
}

void Compressor::encode(const Buffer& values, std::int64_t step, std::span<std::byte> payload) {
  State& s = *state_;
  if (values.count != count() || payload.size() != bytes()) {
    throw UsageError(fmt::format(
        "compression: {} values and room for {} bytes are wanted, got {} values and {} bytes",
        count(), bytes(), values.count, payload.size()));
  }
  if (values.dtype != DType::kF32 && values.dtype != DType::kF64) {
    throw UsageError(
        fmt::format("compression: values must be f32 or f64, got {}", name_of(values.dtype)));
  }
  compress::store(payload.data(), s.header);
  std::byte* const body = payload.data() + sizeof(Header);
  if (!s.leaves_out()) {
    std::vector<float> exact;
    if (values.dtype == DType::kF64) {
      exact.resize(static_cast<std::size_t>(values.count));
      add_values(exact.data(), values);
    }
    s.write_body(exact.empty() ? values.as<float>() : exact.data(), step, body);
    return;
  }
  add_values(s.residual.data(), values);
  s.write_body(s.residual.data(), step, body);
  decode_add(payload, count(), s.residual.data(), -1);
}

Buffer Compressor::summable(std::span<std::byte> payload) const {
  std::byte* const body = payload.data() + sizeof(Header);
  switch (state_->codec()) {
    case Codec::kNone:
      return {body, count(), DType::kF32};
    case Codec::kBF16:
    case Codec::kF16:
      return {body, count(), half_of(state_->codec())};
    case Codec::kRandomK:
      return {body + RandomK::bytes(0), state_->k, DType::kF32};
    default:
      return {};
  }
}

void Compressor::restore_residual(std::span<const std::byte> payload) {
  if (state_->leaves_out()) decode_add(payload, count(), state_->residual.data());
}

Buffer Compressor::residual() {
  return buffer_of(std::span(state_->residual));
}

Buffer Compressor::factor() {
  return buffer_of(std::span(state_->factor));
}

void decode_add(std::span<const std::byte> payload, std::int64_t count, float* sum, float factor) {
  const Header header = header_of(payload, count);
  const std::span<const std::byte> body = payload.subspan(sizeof(Header));
  const auto codec = static_cast<Codec>(header.codec);
  const auto k = static_cast<std::int64_t>(header.parameter);
  const auto values = static_cast<std::uint64_t>(count);
  switch (codec) {
    case Codec::kNone:
      require_bytes(values * sizeof(float), body.size(), codec);
      return compress::add_scaled(sum, body.data(), factor, count);
    case Codec::kBF16:
    case Codec::kF16:
      require_bytes(values * sizeof(std::uint16_t), body.size(), codec);
      return add_halves(body.data(), half_of(codec), count, sum, factor);
    case Codec::kInt8:
      require_bytes(Int8::bytes(count), body.size(), codec);
      return Int8::add(body.data(), count, sum, factor);
    case Codec::kTopK:
      require_bytes(TopK::bytes(k), body.size(), codec);
      if (!TopK::valid(body.data(), count, k)) refuse("the indices of top_k must ascend");
      return TopK::add(body.data(), k, sum, factor);
    case Codec::kRandomK:
      require_bytes(RandomK::bytes(k), body.size(), codec);
      return RandomK::add(body.data(), count, k, sum, factor);
    case Codec::kPowerSgd: {
      const auto low_rank = LowRank::parse(body, count, k);
      if (!low_rank) refuse("the factors of power_sgd do not make these values");
      return low_rank->add(body.data(), sum, factor);
    }
    case Codec::kSign:
      require_bytes(Sign::bytes(count), body.size(), codec);
      return Sign::add(body.data(), count, sum, factor);
  }
}

void decode(std::span<const std::byte> payload, std::int64_t count, float* out) {
  std::fill_n(out, count, 0.f);
  decode_add(payload, count, out);
}

}  // namespace trireme
