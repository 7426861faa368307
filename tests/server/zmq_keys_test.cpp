// Folders of keys.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/comm/message_of.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
#include "trireme/server/zmq/keys.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

/// Sets the umask as long as it exists.
class Umask {
 public:
  explicit Umask(mode_t mask) : before_(::umask(mask)) {}
  ~Umask() { ::umask(before_); }
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;

 private:
  mode_t before_;
};

TEST(KeyFolder, IsPrivateWhateverTheUmask) {
  const TemporaryFolder folder;
  for (const mode_t mask : {0000, 0002, 0022, 0277}) {
    const auto keys = folder.path() / std::to_string(mask) / "";
    const Umask umask(mask & 0077);
    server::write_key_files(keys, "worker", server::new_key_pair());
    EXPECT_EQ(mode_of(keys), 0700U) << mask;
    EXPECT_EQ(mode_of(keys / "worker.secret"), 0600U) << mask;
  }
  {
    const Umask umask(0277);
    server::write_key_files(folder.path() / "strict", "a", server::new_key_pair());
  }
  EXPECT_EQ(mode_of(folder.path() / "strict"), 0700U);
}

TEST(KeyFolder, ThatOthersCanWriteIsRefusedForWritingAndReading) {
  const TemporaryFolder folder;
  const auto keys = folder.path() / "keys";
  server::write_key_files(keys, "worker", server::new_key_pair());
  for (const mode_t mode : {0770, 0702, 01777, 0720}) {
    ASSERT_EQ(::chmod(keys.c_str(), mode), 0);
    const std::string wanted = "is a folder of keys that other users may write";
    EXPECT_THAT(message_of<DataError>(
                    [&] { server::write_key_files(keys, "next", server::new_key_pair()); }),
                HasSubstr(wanted));
    EXPECT_THAT(message_of<DataError>([&] { server::read_key_pair(keys / "worker.secret"); }),
                HasSubstr(wanted));
    EXPECT_THAT(message_of<DataError>([&] { server::read_public_key(keys / "worker.key"); }),
                HasSubstr("run chmod go-w"));
    EXPECT_FALSE(std::filesystem::exists(keys / "next.secret"));
  }
  ASSERT_EQ(::chmod(keys.c_str(), 0755), 0);
  server::write_key_files(keys, "next", server::new_key_pair());
  EXPECT_NO_THROW(server::read_key_pair(keys / "worker.secret"));
}

}  // namespace
}  // namespace trireme::test
