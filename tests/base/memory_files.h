#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "trireme/base/files.h"

namespace trireme::test {

/// Which unsynced data survives a loss of power.
enum class Kept { kNothing, kNames, kNamesAndHalfOfContents };

/// A file system in memory whose operations can fail, that can be full and that can lose power.
///
///     MemoryFiles files;
///     save(files);
///     files.cut_power_at(7);
///     EXPECT_THROW(save(files), DataError);
///     files.restore_power(Kept::kNothing);
///
/// An operation is a call of any function of Files or File. Threads may share it.
class MemoryFiles final : public Files {
 public:
  MemoryFiles();
  ~MemoryFiles() override;

  /// Operation `operation`, counted from 0 from now on, does nothing but fail with the system's
  /// error of that number.
  void fail_at(int operation, int error);
  /// That operation and all after it fail, until restore_power().
  void cut_power_at(int operation);
  /// Unsynced data is lost. Open files can no longer be used.
  void restore_power(Kept kept);
  /// Files may have this many bytes more; a write beyond that writes what fits, and fails.
  void limit_space(std::int64_t bytes);
  /// Removes everything.
  void clear();
  /// Ends all faults and returns true if the last one has struck.
  bool clear_fault();

  std::unique_ptr<File> open(const std::filesystem::path& path) override;
  std::unique_ptr<File> create(const std::filesystem::path& path,
                               const std::filesystem::path& shown_as) override;
  std::unique_ptr<File> open_to_append(const std::filesystem::path& path) override;
  std::unique_ptr<File> lock(const std::filesystem::path& path, std::string_view holder) override;
  FileKind kind_of(const std::filesystem::path& path) override;
  bool is_link(const std::filesystem::path&) override { return false; }
  std::vector<std::string> names_in(const std::filesystem::path& directory) override;
  void make_directory(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void remove(const std::filesystem::path& path) override;
  void sync_directory(const std::filesystem::path& path) override;

 private:
  friend class MemoryFile;
  struct Node;
  using NodePointer = std::shared_ptr<Node>;

  // Must be called, with the lock held, at the beginning of each operation.
  void begin(const std::filesystem::path& path, const char* verb);
  NodePointer find(const std::filesystem::path& path) const;
  NodePointer directory(const std::filesystem::path& path, const char* verb) const;
  NodePointer parent_of(const std::filesystem::path& path, const char* verb) const;
  std::unique_ptr<File> handle(NodePointer node, const std::filesystem::path& shown_as);

  mutable std::mutex mutex_;
  NodePointer root_;
  int operations_ = 0;
  int power_cuts_ = 0;
  std::optional<int> failing_operation_;
  int error_ = 0;
  bool cuts_power_ = false;
  bool has_struck_ = false;
  std::optional<std::int64_t> space_left_;
};

}  // namespace trireme::test
