#include "trireme/parallel/gradients/bucket_memory.h"

#include <algorithm>
#include <cstdint>

namespace trireme {

namespace {

constexpr std::size_t kBucketsAtOnce = 3;  // one is filled while those before it are reduced
constexpr std::size_t kPlaceAlignment = 64;

std::size_t aligned_bytes(std::size_t bytes) {
  return (bytes + kPlaceAlignment - 1) / kPlaceAlignment * kPlaceAlignment;
}

// The most that buckets in a row need.
std::size_t bytes_at_once(const BucketLayout& layout, int rank) {
  std::size_t most = 0;
  const std::size_t buckets = layout.buckets().size();
  for (std::size_t first = 0; first < buckets; ++first) {
    std::size_t bytes = 0;
    for (std::size_t b = first; b < std::min(first + kBucketsAtOnce, buckets); ++b) {
      bytes += aligned_bytes(layout.bytes_of(rank, b));
    }
    most = std::max(most, bytes);
  }
  return most;
}

}  // namespace

BucketMemory::BucketMemory(Communicator& ranks, const BucketLayout& layout, Mode mode)
    : layout_(layout),
      rank_(ranks.rank()),
      mode_(mode),
      memory_(ranks.allocate(bytes_of(layout, rank_, mode))) {}

std::size_t BucketMemory::bytes_of(const BucketLayout& layout, int rank, Mode mode) {
  return mode == Mode::kOwnPlaces ? layout.bytes_of(rank) : bytes_at_once(layout, rank);
}

void* BucketMemory::peer(int rank, std::size_t bucket) const {
  return layout_.place(memory_.peer(rank), rank, bucket);
}

// Returns where so many bytes lie between the places that are taken, or kNone.
std::size_t BucketMemory::find_room(std::size_t bytes) const {
  std::vector<Place> taken;
  for (const auto& [bucket, place] : places_) taken.push_back(place);
  std::ranges::sort(taken, {}, &Place::begin);
  std::size_t begin = 0;
  for (const Place& place : taken) {
    if (begin + bytes <= place.begin) return begin;
    begin = place.end;
  }
  return begin + bytes <= memory_.bytes() ? begin : kNone;
}

bool BucketMemory::has_room(std::size_t bucket) const {
  if (mode_ == Mode::kOwnPlaces || places_.contains(bucket) || beside_.contains(bucket))
    return true;
  return find_room(aligned_bytes(layout_.bytes_of(rank_, bucket))) != kNone;
}

void* BucketMemory::of(std::size_t bucket) {
  if (mode_ == Mode::kOwnPlaces) return layout_.place(memory_.data(), rank_, bucket);
  const auto place = places_.find(bucket);
  if (place != places_.end()) return static_cast<char*>(memory_.data()) + place->second.begin;
  const auto beside = beside_.find(bucket);
  if (beside != beside_.end()) return beside->second.data();
  const std::size_t bytes = aligned_bytes(layout_.bytes_of(rank_, bucket));
  const std::size_t begin = find_room(bytes);
  if (begin == kNone) return beside_.emplace(bucket, ZeroedMemory(bytes)).first->second.data();
  places_[bucket] = {begin, begin + bytes};
  return static_cast<char*>(memory_.data()) + begin;
}

void BucketMemory::release(std::size_t bucket) {
  places_.erase(bucket);
  beside_.erase(bucket);
}

}  // namespace trireme
