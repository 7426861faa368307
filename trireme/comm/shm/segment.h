#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "trireme/comm/shm/layout.h"
#include "trireme/comm/shm/world.h"

namespace trireme::shm {

/// The mapped memfd of one World.
class Segment {
 public:
  static std::shared_ptr<Segment> create(int ranks, const Options& options);
  static std::shared_ptr<Segment> open(int fd);

  Segment(int fd, std::size_t bytes);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  int fd() const { return fd_; }
  char* base() const { return base_; }
  WorldHeader& header() const { return *reinterpret_cast<WorldHeader*>(base_); }
  RankControl& control(int rank) const {
    return reinterpret_cast<RankControl*>(base_ + sizeof(WorldHeader))[rank];
  }

  /// The offsets of the world's group area and of the first arena, and the bytes of an arena.
  std::uint64_t world_area() const;
  std::uint64_t arena(int rank) const;
  std::uint64_t arena_bytes() const;

  /// Returns the offset of [data, data + bytes) if it lies in the segment, otherwise kStaged.
  std::uint64_t offset_of(const void* data, std::size_t bytes) const;

  /// Returns the pages of a range, which begins and ends at huge pages, to the system: they then
  /// read as zeros.
  void discard(std::uint64_t offset, std::size_t bytes);

  void mark_lost(int rank, std::string_view why);
  void mark_vanished(int rank) { mark(rank, Life::kVanished); }
  void mark_ended(int rank) { mark(rank, Life::kEnded); }
  bool is_lost(int rank) const {
    const Life life = control(rank).life.load();
    return life == Life::kLost || life == Life::kVanished;
  }
  bool has_ended(int rank) const { return control(rank).life.load() == Life::kEnded; }
  std::string_view why_lost(int rank) const;

 private:
  void mark(int rank, Life life);
  void wake_all();

  int fd_;
  std::size_t bytes_;
  char* base_;
};

/// Sleeps while `word` holds `value`, until it is woken or for `milliseconds` at most.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, int milliseconds);

/// Changes `word` and wakes all threads that sleep on it.
void ring(std::atomic<std::uint32_t>& word);

}  // namespace trireme::shm
