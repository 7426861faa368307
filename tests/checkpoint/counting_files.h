#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trireme/base/files.h"

namespace trireme::test {

/// Other files, of which it counts what is read and written. One thread at a time.
class CountingFiles final : public Files {
 public:
  explicit CountingFiles(Files& files) : files_(files) {}

  /// Bytes that were read of the files of a directory.
  std::int64_t read_below(const std::filesystem::path& directory) const {
    std::int64_t bytes = 0;
    for (const auto& [path, count] : read_) {
      if (path.parent_path() == directory) bytes += count;
    }
    return bytes;
  }
  /// The most bytes that were read or written at once.
  std::int64_t longest() const { return longest_; }

  std::unique_ptr<File> open(const std::filesystem::path& path) override {
    return std::make_unique<Counted>(*this, path, files_.open(path));
  }
  std::unique_ptr<File> create(const std::filesystem::path& path,
                               const std::filesystem::path& shown_as) override {
    return std::make_unique<Counted>(*this, path, files_.create(path, shown_as));
  }
  std::unique_ptr<File> open_to_append(const std::filesystem::path& path) override {
    return files_.open_to_append(path);
  }
  std::unique_ptr<File> lock(const std::filesystem::path& path, std::string_view holder) override {
    return files_.lock(path, holder);
  }
  FileKind kind_of(const std::filesystem::path& path) override { return files_.kind_of(path); }
  bool is_link(const std::filesystem::path& path) override { return files_.is_link(path); }
  std::vector<std::string> names_in(const std::filesystem::path& directory) override {
    return files_.names_in(directory);
  }
  void make_directory(const std::filesystem::path& path) override { files_.make_directory(path); }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    files_.rename(from, to);
  }
  void remove(const std::filesystem::path& path) override { files_.remove(path); }
  void sync_directory(const std::filesystem::path& path) override { files_.sync_directory(path); }

 private:
  class Counted final : public File {
   public:
    Counted(CountingFiles& counts, std::filesystem::path path, std::unique_ptr<File> file)
        : counts_(counts), path_(std::move(path)), file_(std::move(file)) {}

    std::int64_t size() const override { return file_->size(); }
    std::size_t read(std::int64_t offset, std::span<char> out) const override {
      const std::size_t bytes = file_->read(offset, out);
      counts_.read_[path_] += static_cast<std::int64_t>(bytes);
      note(bytes);
      return bytes;
    }
    void append(std::string_view bytes) override {
      note(bytes.size());
      file_->append(bytes);
    }
    void overwrite(std::int64_t offset, std::string_view bytes) override {
      file_->overwrite(offset, bytes);
    }
    void sync() override { file_->sync(); }

   private:
    void note(std::size_t bytes) const {
      counts_.longest_ = std::max(counts_.longest_, static_cast<std::int64_t>(bytes));
    }

    CountingFiles& counts_;
    std::filesystem::path path_;
    std::unique_ptr<File> file_;
  };

  Files& files_;
  std::map<std::filesystem::path, std::int64_t> read_;
  std::int64_t longest_ = 0;
};

}  // namespace trireme::test
