#include "tests/base/memory_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "trireme/base/error.h"

namespace trireme::test {

namespace fs = std::filesystem;

struct MemoryFiles::Node {
  explicit Node(bool directory) : is_directory(directory) {}

  bool is_directory;
  std::string content;
  std::map<std::string, NodePointer> names;
  // The contents after a loss of power.
  std::string synced_content;
  std::map<std::string, NodePointer> synced_names;
  std::weak_ptr<int> lock;  // held while the file that took it is open

  void lose_power(Kept kept) {
    if (kept == Kept::kNothing) names = synced_names;
    if (kept == Kept::kNamesAndHalfOfContents && content.starts_with(synced_content)) {
      content.resize((content.size() + synced_content.size()) / 2);
    } else {
      content = synced_content;
    }
    for (auto& [name, node] : names) node->lose_power(kept);
    synced_names = names;
    synced_content = content;
    lock.reset();
  }
};

namespace {

[[noreturn]] void fail(const fs::path& path, const char* verb, int error) {
  throw DataError(fmt::format("{}: cannot {}: {}", path.string(), verb, std::strerror(error)));
}

}  // namespace

class MemoryFile final : public File {
 public:
  MemoryFile(MemoryFiles& files, MemoryFiles::NodePointer node, fs::path shown_as)
      : files_(files),
        node_(std::move(node)),
        shown_as_(std::move(shown_as)),
        power_cuts_(files.power_cuts_) {}

  std::int64_t size() const override {
    const std::lock_guard lock(files_.mutex_);
    begin("open");
    return std::ssize(node_->content);
  }

  std::size_t read(std::int64_t offset, std::span<char> out) const override {
    const std::lock_guard lock(files_.mutex_);
    begin("read");
    if (offset >= std::ssize(node_->content)) return 0;
    return node_->content.copy(out.data(), out.size(), static_cast<std::size_t>(offset));
  }

  void append(std::string_view bytes) override {
    const std::lock_guard lock(files_.mutex_);
    begin("write");
    std::size_t fits = bytes.size();
    if (auto& space = files_.space_left_) {
      fits = static_cast<std::size_t>(std::min(static_cast<std::int64_t>(fits), *space));
      *space -= static_cast<std::int64_t>(fits);
    }
    node_->content += bytes.substr(0, fits);
    if (fits == bytes.size()) return;
    files_.has_struck_ = true;
    fail(shown_as_, "write", ENOSPC);
  }

  void overwrite(std::int64_t offset, std::string_view bytes) override {
    const std::lock_guard lock(files_.mutex_);
    begin("write");
    node_->content.replace(static_cast<std::size_t>(offset), bytes.size(), bytes);
  }

  void take_lock() {
    lock_ = std::make_shared<int>();
    node_->lock = lock_;
  }

  void sync() override {
    const std::lock_guard lock(files_.mutex_);
    begin("sync");
    node_->synced_content = node_->content;
  }

 private:
  void begin(const char* verb) const {
    if (power_cuts_ != files_.power_cuts_) fail(shown_as_, verb, EBADF);
    files_.begin(shown_as_, verb);
  }

  MemoryFiles& files_;
  MemoryFiles::NodePointer node_;
  fs::path shown_as_;
  int power_cuts_;
  std::shared_ptr<int> lock_;
};

MemoryFiles::MemoryFiles() : root_(std::make_shared<Node>(true)) {}
MemoryFiles::~MemoryFiles() = default;

void MemoryFiles::fail_at(int operation, int error) {
  const std::lock_guard lock(mutex_);
  operations_ = 0;
  failing_operation_ = operation;
  error_ = error;
  cuts_power_ = false;
  has_struck_ = false;
}

void MemoryFiles::cut_power_at(int operation) {
  fail_at(operation, EIO);
  cuts_power_ = true;
}

void MemoryFiles::restore_power(Kept kept) {
  clear_fault();
  const std::lock_guard lock(mutex_);
  ++power_cuts_;
  root_->lose_power(kept);
}

void MemoryFiles::limit_space(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  has_struck_ = false;
  space_left_ = bytes;
}

void MemoryFiles::clear() {
  const std::lock_guard lock(mutex_);
  root_ = std::make_shared<Node>(true);
}

bool MemoryFiles::clear_fault() {
  const std::lock_guard lock(mutex_);
  failing_operation_.reset();
  space_left_.reset();
  return has_struck_;
}

void MemoryFiles::begin(const fs::path& path, const char* verb) {
  if (!failing_operation_) return;
  const int operation = operations_++;
  if (operation < *failing_operation_) return;
  if (operation > *failing_operation_ && !cuts_power_) return;
  has_struck_ = true;
  fail(path, verb, error_);
}

MemoryFiles::NodePointer MemoryFiles::find(const fs::path& path) const {
  NodePointer node = root_;
  for (const fs::path& name : path.lexically_normal().relative_path()) {
    if (name.empty() || name == ".") continue;
    const auto found = node->names.find(name.string());
    if (found == node->names.end()) return nullptr;
    node = found->second;
  }
  return node;
}

MemoryFiles::NodePointer MemoryFiles::directory(const fs::path& path, const char* verb) const {
  NodePointer node = find(path);
  if (!node) fail(path, verb, ENOENT);
  if (!node->is_directory) fail(path, verb, ENOTDIR);
  return node;
}

MemoryFiles::NodePointer MemoryFiles::parent_of(const fs::path& path, const char* verb) const {
  const NodePointer parent = find(path.parent_path());
  if (!parent) fail(path, verb, ENOENT);
  if (!parent->is_directory) fail(path, verb, ENOTDIR);
  return parent;
}

std::unique_ptr<File> MemoryFiles::handle(NodePointer node, const fs::path& shown_as) {
  return std::make_unique<MemoryFile>(*this, std::move(node), shown_as);
}

std::unique_ptr<File> MemoryFiles::open(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  begin(path, "open");
  NodePointer node = find(path);
  if (!node) fail(path, "open", ENOENT);
  if (node->is_directory) fail(path, "read", EISDIR);
  return handle(std::move(node), path);
}

std::unique_ptr<File> MemoryFiles::create(const fs::path& path, const fs::path& shown_as) {
  const std::lock_guard lock(mutex_);
  begin(shown_as, "create");
  const NodePointer parent = find(path.parent_path());
  if (!parent) fail(shown_as, "create", ENOENT);
  NodePointer& node = parent->names[path.filename().string()];
  if (!node) node = std::make_shared<Node>(false);
  if (node->is_directory) fail(shown_as, "create", EISDIR);
  node->content.clear();
  return handle(node, shown_as);
}

std::unique_ptr<File> MemoryFiles::open_to_append(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  begin(path, "write");
  NodePointer& node = parent_of(path, "write")->names[path.filename().string()];
  if (!node) node = std::make_shared<Node>(false);
  if (node->is_directory) fail(path, "write", EISDIR);
  return handle(node, path);
}

std::unique_ptr<File> MemoryFiles::lock(const fs::path& path, std::string_view holder) {
  const std::lock_guard lock(mutex_);
  begin(path, "lock");
  NodePointer& node = parent_of(path, "lock")->names[path.filename().string()];
  if (!node) node = std::make_shared<Node>(false);
  if (node->is_directory) fail(path, "lock", EISDIR);
  if (!node->lock.expired()) return nullptr;
  node->content = holder;
  auto file = std::make_unique<MemoryFile>(*this, node, path);
  file->take_lock();
  return file;
}

FileKind MemoryFiles::kind_of(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  begin(path, "open");
  const NodePointer node = find(path);
  if (!node) return FileKind::kNone;
  return node->is_directory ? FileKind::kDirectory : FileKind::kFile;
}

std::vector<std::string> MemoryFiles::names_in(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  begin(path, "list");
  std::vector<std::string> names;
  for (const auto& [name, node] : directory(path, "list")->names) names.push_back(name);
  return names;
}

void MemoryFiles::make_directory(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  begin(path, "create");
  NodePointer& node = parent_of(path, "create")->names[path.filename().string()];
  if (!node) node = std::make_shared<Node>(true);
  if (!node->is_directory) fail(path, "create", EEXIST);
}

void MemoryFiles::rename(const fs::path& from, const fs::path& to) {
  const std::lock_guard lock(mutex_);
  begin(to, "rename");
  const NodePointer parent = parent_of(from, "rename");
  const NodePointer node = find(from), old = find(to);
  if (!node || parent != parent_of(to, "rename")) fail(to, "rename", ENOENT);
  if (old && old->is_directory && !old->names.empty()) fail(to, "rename", ENOTEMPTY);
  parent->names[to.filename().string()] = node;
  parent->names.erase(from.filename().string());
}

void MemoryFiles::remove(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  begin(path, "remove");
  const NodePointer node = find(path);
  if (!node) return;
  if (!node->names.empty()) fail(path, "remove", ENOTEMPTY);
  parent_of(path, "remove")->names.erase(path.filename().string());
}

void MemoryFiles::sync_directory(const fs::path& path) {
  const std::lock_guard lock(mutex_);
  begin(path, "sync");
  const NodePointer node = directory(path, "sync");
  node->synced_names = node->names;
}

}  // namespace trireme::test
