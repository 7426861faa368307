// The store of a rendezvous between its own ranks and strangers.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <fstream>
#include <thread>

#include "tests/comm/loopback.h"
#include "tests/formats/temporary_folder.h"
#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/launch/rendezvous/client.h"
#include "trireme/launch/rendezvous/server.h"

namespace trireme::rendezvous {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

Client::Deadline in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

Server::Options on_loopback(const Identity& identity, int ranks = 3) {
  return {.identity = identity, .on_loopback = true, .ranks = ranks};
}

Client::Options to(const Server& server, const Identity& identity,
                   std::chrono::milliseconds patience = 20s) {
  return {.identity = identity,
          .who = "rank 1 of 3",
          .address = "127.0.0.1",
          .port = server.port(),
          .deadline = in(patience)};
}

std::optional<std::string> ask(Client& client, const StoreRequest& request) {
  return client.request(request, in(20s));
}

void send_text(const FileDescriptor& socket, std::string_view text) {
  EXPECT_EQ(::send(socket.fd(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
}

// Returns what comes until the other end closes, or within 10 s.
std::string rest_of(const FileDescriptor& socket) {
  const timeval patience{.tv_sec = 10, .tv_usec = 0};
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string text;
  std::array<char, 4096> bytes;
  for (ssize_t got = 1; got > 0;) {
    got = ::recv(socket.fd(), bytes.data(), bytes.size(), 0);
    if (got > 0) text.append(bytes.data(), static_cast<std::size_t>(got));
    if (got < 0 && errno == EAGAIN) ADD_FAILURE() << "still open after 10 s";
  }
  return text;
}

template <class E>
std::string error_of(const Client::Options& options) {
  try {
    Client client(options);
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

const Identity kNoSecret{.job = "a job", .secret = {}};

TEST(RendezvousStore, KeepsWhatRanksWrite) {
  const Identity identity{.job = "a job", .secret = JobSecret::random()};
  const Server server(on_loopback(identity));
  Client first(to(server, identity));
  Client second(to(server, identity));
  using enum RequestKind;
  EXPECT_EQ(ask(first, {.kind = kRead, .key = "k"}), std::nullopt);
  EXPECT_EQ(ask(first, {.kind = kWrite, .key = "k", .value = std::string("a\0b", 3)}),
            std::string("a\0b", 3));
  EXPECT_EQ(ask(second, {.kind = kRead, .key = "k"}), std::string("a\0b", 3));
  EXPECT_EQ(ask(first, {.kind = kAdd, .key = "n", .value = "3"}), "3");
  EXPECT_EQ(ask(second, {.kind = kAdd, .key = "n", .value = "-5"}), "-2");
  EXPECT_EQ(ask(second, {.kind = kCompareSet, .key = "c", .value = "first"}), "first");
  EXPECT_EQ(ask(first, {.kind = kCompareSet, .key = "c", .value = "second"}), "first");
  EXPECT_EQ(ask(first, {.kind = kCompareSet, .key = "c", .expected = "first", .value = "x"}), "x");
  EXPECT_EQ(ask(first, {.kind = kCount}), "3");
  EXPECT_EQ(ask(first, {.kind = kErase, .key = "c"}), "x");
  EXPECT_EQ(ask(second, {.kind = kRead, .key = "c"}), std::nullopt);
}

TEST(RendezvousStore, CarriesValuesOfMegabytes) {
  const Server server(on_loopback(kNoSecret));
  Client client(to(server, kNoSecret));
  const std::string large(5 << 20, 'x');
  ask(client, {.kind = RequestKind::kWrite, .key = "k", .value = large});
  EXPECT_EQ(ask(client, {.kind = RequestKind::kRead, .key = "k"}), large);
}

TEST(RendezvousStore, WaitsOnPastStrangers) {
  const Server server(on_loopback(kNoSecret));
  std::vector<FileDescriptor> strangers;
  for (const char* text : {"x", "GET / HTTP/1.0\r\n\r\n", "TRIRDV1", "\x16\x03\x01\x02", ""}) {
    strangers.push_back(test::connected_to(server.port()));
    send_text(strangers.back(), text);
  }
  // One that sends a hello of random bytes, and one that is cut off.
  strangers.push_back(test::connected_to(server.port()));
  send_text(strangers.back(), "TRIRDV1\n" + std::string(kHelloBytes - 8, '\x5a'));
  EXPECT_THAT(rest_of(strangers.back()), HasSubstr("J"));
  strangers.push_back(test::connected_to(server.port()));
  const linger reset{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(strangers.back().fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  strangers.back().close();

  Client client(to(server, kNoSecret));
  EXPECT_EQ(ask(client, {.kind = RequestKind::kWrite, .key = "k", .value = "v"}), "v");
}

TEST(RendezvousStore, ClosesConnectionsThatDoNotFinishTheHandshake) {
  Server::Options options = on_loopback(kNoSecret);
  options.handshake_time = 200ms;
  const Server server(options);
  const FileDescriptor silent = test::connected_to(server.port());
  const FileDescriptor slow = test::connected_to(server.port());
  send_text(slow, "TRIRDV1\n");
  EXPECT_EQ(rest_of(silent).size(), kGreetingBytes);
  EXPECT_EQ(rest_of(slow).size(), kGreetingBytes);
}

TEST(RendezvousStore, IsReachedByRanksWhileHundredsOfStrangersHoldConnections) {
  const Server server(on_loopback(kNoSecret));
  std::vector<FileDescriptor> strangers;
  for (int i = 0; i < 300; ++i) strangers.push_back(test::connected_to(server.port()));
  Client client(to(server, kNoSecret));
  EXPECT_EQ(ask(client, {.kind = RequestKind::kCount}), "0");
}

TEST(RendezvousStore, RefusesAnotherSecretAndNone) {
  const Identity identity{.job = "a job", .secret = JobSecret::random()};
  const Server server(on_loopback(identity));
  const Identity other{.job = "a job", .secret = JobSecret::random()};
  EXPECT_EQ(error_of<UsageError>(to(server, other)),
            fmt::format("connect: rank 1 of 3 has another secret than the job secret of rank 0 at "
                        "127.0.0.1:{}; give all ranks the same file by --job-secret or "
                        "TRIREME_JOB_SECRET_FILE",
                        server.port()));
  EXPECT_THAT(error_of<UsageError>(to(server, kNoSecret)),
              HasSubstr("rank 1 of 3 does not have the job secret of rank 0"));
  const Server open(on_loopback(kNoSecret));
  EXPECT_THAT(error_of<UsageError>(to(open, identity)), HasSubstr("has another secret than"));
}

TEST(RendezvousStore, RemembersWhomItHasRefused) {
  const Identity identity{.job = "a job", .secret = JobSecret::random()};
  const Server server(on_loopback(identity));
  EXPECT_THAT(server.refused(), testing::IsEmpty());
  for (int i = 0; i < 3; ++i) error_of<UsageError>(to(server, kNoSecret));
  error_of<CommError>(to(server, {.job = "another", .secret = identity.secret}, 100ms));
  EXPECT_THAT(server.refused(),
              testing::ElementsAre("127.0.0.1, which has another job secret or none",
                                   "127.0.0.1, which belongs to another job"));
}

TEST(RendezvousStore, KeepsRanksOfAnotherJobOut) {
  const Server server(on_loopback({.job = "slurm 17.0", .secret = {}}));
  const std::string error =
      error_of<CommError>(to(server, {.job = "slurm 17.1", .secret = {}}, 300ms));
  EXPECT_THAT(error, HasSubstr("it belongs to another job"));
  EXPECT_THAT(error, HasSubstr("TRIREME_JOB_ID"));
}

TEST(RendezvousStore, IsFoundOnceAnotherJobHasLeftThePort) {
  const Identity mine{.job = "the next job", .secret = {}};
  auto before = std::make_unique<Server>(on_loopback({.job = "the last job", .secret = {}}));
  const Client::Options options = to(*before, mine);
  Server::Options next = on_loopback(mine);
  next.port = before->port();
  std::thread change([&] {
    std::this_thread::sleep_for(300ms);
    before.reset();
    before = std::make_unique<Server>(next);
  });
  Client client(options);
  change.join();
  EXPECT_EQ(ask(client, {.kind = RequestKind::kCount}), "0");
}

TEST(RendezvousStore, IsNotImitatedWithoutTheSecret) {
  // It speaks the protocol and says welcome to everyone.
  const FileDescriptor listener = test::listening_on(0);
  std::thread imitation([&] {
    const FileDescriptor accepted(::accept(listener.fd(), nullptr, nullptr));
    send_text(accepted, "TRIRDV1\n" + std::string(kDigestBytes, 'n'));
    std::array<char, kHelloBytes> hello;
    EXPECT_EQ(::recv(accepted.fd(), hello.data(), hello.size(), MSG_WAITALL),
              static_cast<ssize_t>(hello.size()));
    send_text(accepted, "W" + std::string(kDigestBytes, 'p'));
  });
  const std::string error =
      error_of<UsageError>({.identity = {.job = "a job", .secret = JobSecret::random()},
                            .who = "rank 2 of 3",
                            .address = "127.0.0.1",
                            .port = test::port_of(listener),
                            .deadline = in(20s)});
  imitation.join();
  EXPECT_THAT(error, HasSubstr("rank 2 of 3 has another secret than the job secret of rank 0"));
}

TEST(RendezvousStore, BoundsWhatRanksStore) {
  Server::Options options = on_loopback(kNoSecret);
  options.max_bytes = 10000;
  const Server server(options);
  Client client(to(server, kNoSecret));
  ask(client, {.kind = RequestKind::kWrite, .key = "k", .value = std::string(9000, 'x')});
  // In place of the first, it fits.
  ask(client, {.kind = RequestKind::kWrite, .key = "k", .value = std::string(9500, 'x')});
  EXPECT_THROW(
      ask(client, {.kind = RequestKind::kWrite, .key = "l", .value = std::string(900, 'x')}),
      CommError);
  Client small(to(server, kNoSecret));
  // The keys count, too.
  const auto fill = [&] {
    for (int i = 0; i < 100; ++i) {
      ask(small, {.kind = RequestKind::kWrite, .key = std::to_string(i), .value = ""});
    }
  };
  EXPECT_THROW(fill(), CommError);
}

TEST(RendezvousStore, RefusesAPortInUse) {
  const Server server(on_loopback(kNoSecret));
  Server::Options same = on_loopback(kNoSecret);
  same.port = server.port();
  EXPECT_THROW(Server{same}, UsageError);
}

TEST(Handshake, SealedMessagesAreNeitherChangedNorRepeatedNorReordered) {
  const Identity identity{.job = "a job", .secret = JobSecret::random()};
  const ServerHandshake server(identity);
  ClientHandshake client(identity);
  const auto answer = server.answer(client.hello(server.greeting()).value());
  ASSERT_EQ(client.verdict(answer->bytes), Verdict::kWelcome);
  Session sent = client.session();
  const std::string first = sent.to_server.seal("first");
  const std::string second = sent.to_server.seal("second");
  std::string text;
  const auto opened = [&](const Session& session, std::string bytes, Seal Session::*seal) {
    Session copy = session;
    return (copy.*seal).open(bytes, text);
  };
  const Session& fresh = answer->session;
  EXPECT_EQ(opened(fresh, first, &Session::to_server), Seal::Opened::kText);
  EXPECT_EQ(text, "first");
  EXPECT_EQ(opened(fresh, second, &Session::to_server), Seal::Opened::kForged);
  EXPECT_EQ(opened(fresh, first, &Session::to_client), Seal::Opened::kForged);
  Session received = answer->session;
  std::string twice = first + first;
  EXPECT_EQ(received.to_server.open(twice, text), Seal::Opened::kText);
  EXPECT_EQ(received.to_server.open(twice, text), Seal::Opened::kForged);
  for (std::size_t at = 0; at < first.size(); ++at) {
    std::string changed = first;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    EXPECT_NE(opened(fresh, changed, &Session::to_server), Seal::Opened::kText) << at;
    EXPECT_EQ(opened(fresh, first.substr(0, at), &Session::to_server), Seal::Opened::kMore) << at;
  }
  std::string huge = "\xff\xff\xff\xff";
  EXPECT_EQ(opened(fresh, huge, &Session::to_server), Seal::Opened::kForged);
}

TEST(StoreRequest, IsReadBackOrRefusedAtEveryLength) {
  const std::string bytes = encode(
      {.kind = RequestKind::kCompareSet, .key = "key", .expected = "expected", .value = "value"});
  const auto read = decode_request(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->key + "," + read->expected + "," + read->value, "key,expected,value");
  // 9 bytes of header, 11 of key and expected; the value may be cut.
  for (std::size_t length = 0; length < 20; ++length) {
    EXPECT_FALSE(decode_request(bytes.substr(0, length))) << length;
  }
  EXPECT_FALSE(decode_request(std::string(9, '\xff')));
}

class JobSecretFile : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& text, mode_t mode) {
    const auto path = folder_.path() / "job.secret";
    std::ofstream(path) << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }

  std::string refusal(const std::string& text, mode_t mode) {
    try {
      JobSecret::from_file(write(text, mode));
    } catch (const DataError& error) {
      return error.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
};

TEST_F(JobSecretFile, GivesOneKeyWhateverBlanksAreAroundIt) {
  const JobSecret secret = JobSecret::from_file(write("0123456789abcdef", 0600));
  EXPECT_TRUE(secret.is_given());
  EXPECT_EQ(JobSecret::from_file(write("  0123456789abcdef\r\n", 0440)).key(), secret.key());
  EXPECT_NE(JobSecret::from_file(write("0123456789abcdeF", 0400)).key(), secret.key());
  EXPECT_EQ(JobSecret::from_hex(secret.hex()).key(), secret.key());
}

TEST_F(JobSecretFile, IsRefusedIfOthersMayReadOrChangeIt) {
  for (const mode_t mode : {0604, 0602, 0620, 0644}) {
    EXPECT_THAT(refusal("0123456789abcdef", mode), HasSubstr("run chmod 600")) << mode;
  }
}

TEST_F(JobSecretFile, IsRefusedIfItIsShortLongOrNoFile) {
  EXPECT_THAT(refusal("short\n", 0600), HasSubstr("at least 16 characters, got 5"));
  EXPECT_THAT(refusal(std::string(5000, 'x'), 0600), HasSubstr("at most 4096 bytes"));
  EXPECT_THROW(JobSecret::from_file(folder_.path()), DataError);
  EXPECT_THROW(JobSecret::from_file(folder_.path() / "missing"), DataError);
  for (const char* hex : {"", "12", "zz"}) EXPECT_THROW(JobSecret::from_hex(hex), UsageError);
}

}  // namespace
}  // namespace trireme::rendezvous
