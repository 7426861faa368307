// The guarantees of Files, for the real file system and for the one in memory.
#include "trireme/base/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <thread>

#include "tests/base/memory_files.h"
#include "tests/formats/error_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/atomic_file.h"
#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class FilesConformance : public testing::TestWithParam<bool> {
 protected:
  FilesConformance() {
    if (!is_real()) make_directories(root(), memory_);
  }

  static bool is_real() { return GetParam(); }
  Files& files() { return is_real() ? real_files() : static_cast<Files&>(memory_); }
  std::filesystem::path root() const { return is_real() ? folder_.path() : "/somewhere/deep"; }
  std::filesystem::path write(const char* name, std::string_view bytes) {
    write_file_atomically(root() / name, bytes, files());
    return root() / name;
  }

 private:
  TemporaryFolder folder_;
  test::MemoryFiles memory_;
};

TEST_P(FilesConformance, ReadBackWhatWasWritten) {
  const auto path = write("a", std::string("one\0two", 7));
  EXPECT_EQ(read_file(path, files()), std::string("one\0two", 7));
  const auto file = files().open(path);
  EXPECT_EQ(file->size(), 7);
  std::string part(5, '?');
  EXPECT_EQ(file->read(4, part), 3u);
  EXPECT_EQ(part, "two??");
  EXPECT_EQ(file->read(7, part), 0u);
}

TEST_P(FilesConformance, AppendBehindTheEnd) {
  const auto path = root() / "log";
  files().open_to_append(path)->append("one");
  const auto file = files().open_to_append(path);
  file->append("two");
  file->sync();
  EXPECT_EQ(read_file(path, files()), "onetwo");
}

TEST_P(FilesConformance, ReplaceAFileAsAWholeOrNotAtAll) {
  const auto path = write("a", "old");
  {
    AtomicFile file(path, files());
    file.write("new");
  }
  EXPECT_EQ(read_file(path, files()), "old");
  write("a", "new");
  EXPECT_EQ(read_file(path, files()), "new");
  EXPECT_THAT(files().names_in(root()), UnorderedElementsAre("a"));
}

TEST_P(FilesConformance, ReplaceAHeaderWhoseNumbersAreKnownAtTheEnd) {
  AtomicFile file(root() / "a", files());
  file.write("????-");
  file.write("body");
  file.overwrite(0, "head");
  file.write("-tail");
  file.commit();
  EXPECT_EQ(read_file(root() / "a", files()), "head-body-tail");
}

TEST_P(FilesConformance, MakeListRenameAndRemoveDirectories) {
  make_directories(root() / "one" / "inside", files());
  files().make_directory(root() / "one");  // exists
  files().make_directory(root() / "two");
  write("one/file", "1");
  files().rename(root() / "one", root() / "three");
  files().sync_directory(root());
  EXPECT_THAT(files().names_in(root()), UnorderedElementsAre("two", "three"));
  EXPECT_THAT(files().names_in(root() / "three"), UnorderedElementsAre("inside", "file"));
  files().remove(root() / "two");
  files().remove(root() / "three" / "file");
  files().remove(root() / "nothing of this name");
  EXPECT_THAT(files().names_in(root()), UnorderedElementsAre("three"));
  EXPECT_THAT(files().names_in(root() / "three"), UnorderedElementsAre("inside"));
}

TEST_P(FilesConformance, RemoveNoDirectoryThatHoldsAnything) {
  make_directories(root() / "one", files());
  write("one/file", "1");
  EXPECT_THAT(error_of<DataError>([&] { files().remove(root() / "one"); }),
              HasSubstr("one: cannot remove: Directory not empty"));
  EXPECT_EQ(read_file(root() / "one/file", files()), "1");
}

TEST_P(FilesConformance, LockForOneAtATime) {
  const auto path = root() / "lock";
  auto first = files().lock(path, "the first holder");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(files().lock(path, "the second"), nullptr);
  EXPECT_EQ(read_file(path, files()), "the first holder");
  first.reset();
  EXPECT_NE(files().lock(path, "2nd"), nullptr);
  EXPECT_EQ(read_file(path, files()), "2nd");
}

TEST_P(FilesConformance, LockTheFileThatHasTheName) {
  const auto path = root() / "lock";
  const auto first = files().lock(path, "1");
  files().remove(path);
  EXPECT_NE(files().lock(path, "2"), nullptr);
}

TEST_P(FilesConformance, SayWhatAPathIs) {
  write("a", "");
  EXPECT_EQ(files().kind_of(root() / "a"), FileKind::kFile);
  EXPECT_EQ(files().kind_of(root()), FileKind::kDirectory);
  EXPECT_EQ(files().kind_of(root() / "b"), FileKind::kNone);
}

TEST_P(FilesConformance, NameThePathAndTheReason) {
  const auto refusal = [&](const std::function<void()>& action) {
    return error_of<DataError>(action);
  };
  const auto missing = root() / "no" / "m";
  const auto no_such_file = HasSubstr("No such file");
  EXPECT_THAT(refusal([&] { files().open(missing); }),
              AllOf(HasSubstr(missing.string() + ": cannot open"), no_such_file));
  EXPECT_THAT(refusal([&] { AtomicFile(missing, files()); }),
              AllOf(HasSubstr(missing.string() + ": cannot create"), no_such_file));
  EXPECT_THAT(refusal([&] { files().open_to_append(missing); }), no_such_file);
  EXPECT_THAT(refusal([&] { files().names_in(missing); }), no_such_file);
  EXPECT_THAT(refusal([&] { files().make_directory(missing); }), no_such_file);
  EXPECT_THAT(refusal([&] { files().rename(missing, root() / "no" / "n"); }), no_such_file);
  EXPECT_THAT(refusal([&] { files().lock(missing, ""); }), no_such_file);
  EXPECT_THAT(refusal([&] { require_file(missing, files()); }),
              HasSubstr("m: must be a file, there is"));
  EXPECT_THAT(refusal([&] { files().sync_directory(missing); }), no_such_file);
  EXPECT_THAT(refusal([&] { read_file(root(), files()); }), HasSubstr("Is a directory"));
}

INSTANTIATE_TEST_SUITE_P(, FilesConformance, testing::Bool(),
                         [](const auto& info) { return info.param ? "Real" : "InMemory"; });

TEST(RealFiles, ReadAPipeToItsEnd) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const std::string text(200'000, 'x');
  std::thread writer([&] { std::ofstream(path) << text; });
  EXPECT_EQ(read_file(path), text);
  writer.join();
}

TEST(RealFiles, RemoveALinkAndNotWhatItLeadsTo) {
  const TemporaryFolder folder;
  const auto file = folder.write("file", "of the user");
  std::filesystem::create_directory(folder.path() / "directory");
  for (const char* target : {"file", "directory", "link"}) {  // the last leads to itself
    const auto link = folder.path() / "link";
    std::filesystem::create_symlink(folder.path() / target, link);
    EXPECT_TRUE(real_files().is_link(link));
    real_files().remove(link);
    EXPECT_FALSE(std::filesystem::is_symlink(link));
  }
  EXPECT_FALSE(real_files().is_link(file));
  EXPECT_EQ(read_file(file), "of the user");
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "directory"));
}

// To open a FIFO without a reader or a writer would wait without end.
TEST(RealFiles, WriteNoFifosAndNoDevices) {
  const TemporaryFolder folder;
  const auto fifo = folder.path() / "fifo", device = folder.path() / "device";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::filesystem::create_symlink("/dev/null", device);
  for (const auto& path : {fifo, device}) {
    const auto expect_refused = [&](auto&& action) {
      EXPECT_THAT(error_of<DataError>(action),
                  AllOf(HasSubstr(path.string()), HasSubstr("a FIFO, a socket or a device")));
    };
    expect_refused([&] { real_files().open_to_append(path); });
    expect_refused([&] { real_files().create(path, path); });
    expect_refused([&] { write_file_atomically(path, "text"); });
    expect_refused([&] { require_file(path); });
  }
  EXPECT_THAT(error_of<DataError>([&] { real_files().lock(fifo, ""); }), HasSubstr("a FIFO"));
}

TEST(RealFiles, NameALoopOfLinks) {
  const TemporaryFolder folder;
  const auto loop = folder.path() / "loop";
  std::filesystem::create_symlink(loop, loop);
  EXPECT_THAT(error_of<DataError>([&] { real_files().kind_of(loop); }),
              HasSubstr("Too many levels of symbolic links"));
}

// What a file system may do to names and contents that were not synced.
class LossOfPower : public testing::TestWithParam<test::Kept> {};

TEST_P(LossOfPower, KeepsWhatWasSynced) {
  test::MemoryFiles files;
  make_directories("/run", files);
  write_file_atomically("/run/synced", "all of it", files);
  files.open_to_append("/run/synced")->append(", and more");
  files.create("/run/new", "/run/new")->append("text");
  files.restore_power(GetParam());
  const std::string kept = read_file("/run/synced", files);
  EXPECT_EQ(kept.substr(0, 9), "all of it");
  EXPECT_EQ(kept.size(), GetParam() == test::Kept::kNamesAndHalfOfContents ? 14u : 9u);
  EXPECT_EQ(files.kind_of("/run/new"),
            GetParam() == test::Kept::kNothing ? FileKind::kNone : FileKind::kFile);
}

INSTANTIATE_TEST_SUITE_P(, LossOfPower,
                         testing::Values(test::Kept::kNothing, test::Kept::kNames,
                                         test::Kept::kNamesAndHalfOfContents));

TEST(MemoryFiles, FailWhereTheyAreToldTo) {
  test::MemoryFiles files;
  files.fail_at(1, EIO);
  files.make_directory("/a");
  EXPECT_THAT(error_of<DataError>([&] { files.make_directory("/b"); }),
              HasSubstr("/b: cannot create: Input/output error"));
  files.make_directory("/c");
  EXPECT_TRUE(files.clear_fault());
  EXPECT_THAT(files.names_in("/"), UnorderedElementsAre("a", "c"));
}

TEST(MemoryFiles, TakeWhatFits) {
  test::MemoryFiles files;
  files.limit_space(5);
  const auto file = files.create("/a", "/a");
  file->append("123");
  EXPECT_THAT(error_of<DataError>([&] { file->append("4567"); }), HasSubstr("No space left"));
  EXPECT_TRUE(files.clear_fault());
  EXPECT_EQ(read_file("/a", files), "12345");
}

}  // namespace
}  // namespace trireme
