#include "trireme/cli/folder_check.h"

#include <chrono>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/train/run_directory.h"

namespace trireme::cli {

namespace {

namespace fs = std::filesystem;

// Blanks and backslashes of paths are three octal digits there.
std::string unescaped(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 3 >= text.size()) {
      result += text[i];
      continue;
    }
    result += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
    i += 3;
  }
  return result;
}

bool is_inside(const std::string& path, const std::string& folder) {
  if (folder == "/") return true;
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

double seconds_to_sync(const fs::path& path) {
  const std::unique_ptr<File> file = real_files().create(path, path);
  const auto begin = std::chrono::steady_clock::now();
  file->append(std::string(4096, 'x'));
  file->sync();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  real_files().remove(path);
  return seconds;
}

bool has_locks(const fs::path& path) {
  const auto first = real_files().lock(path, "trireme doctor");
  const auto second = real_files().lock(path, "trireme doctor");
  real_files().remove(path);
  return first != nullptr && second == nullptr;
}

}  // namespace

std::string file_system_of(const fs::path& path, const std::string& mounts) {
  std::string type;
  std::size_t longest = 0;
  std::istringstream lines(mounts);
  for (std::string line; std::getline(lines, line);) {
    // "36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw"
    std::istringstream fields(line);
    const std::vector<std::string> words(std::istream_iterator<std::string>(fields), {});
    const std::size_t dash = line.find(" - ");
    if (words.size() < 5 || dash == std::string::npos) continue;
    const std::string mounted = unescaped(words[4]);
    if (!is_inside(path.string(), mounted) || mounted.size() < longest) continue;
    longest = mounted.size();
    std::istringstream(line.substr(dash + 3)) >> type;
  }
  return type;
}

FolderCheck check_folder(const fs::path& folder) {
  FolderCheck check{.folder = fs::absolute(folder)};
  try {
    if (real_files().kind_of(folder) != FileKind::kDirectory) {
      throw DataError("there is no such folder");
    }
    check.folder = fs::canonical(folder);
    std::ifstream mounts("/proc/self/mountinfo");
    check.file_system =
        file_system_of(check.folder, std::string(std::istreambuf_iterator<char>(mounts), {}));
    check.free_bytes = static_cast<std::int64_t>(fs::space(check.folder).available);
    probe_directory({check.folder});
    const fs::path probe = check.folder / ".trireme-doctor";
    check.sync_seconds = seconds_to_sync(probe);
    check.has_locks = has_locks(probe);
  } catch (const std::exception& error) {
    check.trouble = error.what();
  }
  return check;
}

}  // namespace trireme::cli
