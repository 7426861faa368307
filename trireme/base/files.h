#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

/// An open file. Its destructor closes it. Threads may read at the same time.
class File {
 public:
  virtual ~File() = default;

  virtual std::int64_t size() const = 0;
  /// Reads from byte `offset` on and returns the bytes read: fewer than out.size() only at the end.
  virtual std::size_t read(std::int64_t offset, std::span<char> out) const = 0;
  /// Writes behind the end.
  virtual void append(std::string_view bytes) = 0;
  /// Replaces what stands from byte `offset` on; must end within the file. For a file of create().
  virtual void overwrite(std::int64_t offset, std::string_view bytes) = 0;
  /// What was appended before survives a loss of power.
  virtual void sync() = 0;
};

enum class FileKind { kNone, kFile, kDirectory, kOther };

/// A file system: the real one, or in tests one in memory that can fail. Every function of it and
/// of its files throws DataError, which names the path and the reason.
class Files {
 public:
  virtual ~Files() = default;

  /// Opens a file to read it.
  virtual std::unique_ptr<File> open(const std::filesystem::path& path) = 0;
  /// Opens an empty file to write it; an old one is emptied. Errors name `shown_as`. What is no
  /// file, such as a FIFO, is an error.
  virtual std::unique_ptr<File> create(const std::filesystem::path& path,
                                       const std::filesystem::path& shown_as) = 0;
  /// Opens a file to write behind its end; creates it if it does not exist. What is no file, such
  /// as a FIFO, is an error.
  virtual std::unique_ptr<File> open_to_append(const std::filesystem::path& path) = 0;

  /// Locks the file at `path`, which it creates, until the returned file and its copies in forked
  /// processes are closed. The file then holds `holder`. Returns null if another process, or
  /// another call of this one, has the lock. A file system without locks grants all of them.
  virtual std::unique_ptr<File> lock(const std::filesystem::path& path,
                                     std::string_view holder) = 0;

  /// Returns what is at `path`, or at the end of the symbolic link there.
  virtual FileKind kind_of(const std::filesystem::path& path) = 0;
  /// Returns true if `path` itself is a symbolic link.
  virtual bool is_link(const std::filesystem::path& path) = 0;
  /// Returns the names in a directory, in no order.
  virtual std::vector<std::string> names_in(const std::filesystem::path& directory) = 0;
  /// Creates a directory, if it does not exist. Its parent must exist.
  virtual void make_directory(const std::filesystem::path& path) = 0;
  /// Moves `from` to `to`, both of one directory. If `to` is a file, it is replaced.
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  /// Removes a file, a symbolic link or an empty directory, if it exists.
  virtual void remove(const std::filesystem::path& path) = 0;
  /// Names that were created, changed or removed in the directory before survive a loss of power.
  virtual void sync_directory(const std::filesystem::path& path) = 0;
};

/// The operating system's files.
Files& real_files();

/// Creates a directory and its missing parents; all of them survive a loss of power.
void make_directories(const std::filesystem::path& path, Files& files = real_files());

/// Throws DataError unless `path` is a file. For files of a directory that trireme writes: to open
/// a FIFO there would wait for its other end.
void require_file(const std::filesystem::path& path, Files& files = real_files());

/// Returns the whole file. Throws DataError.
std::string read_file(const std::filesystem::path& path, Files& files = real_files());

/// Replaces `path` as a whole or not at all (AtomicFile). Throws DataError.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes,
                           Files& files = real_files());

}  // namespace trireme
