// Clients that are not listed, and listed clients that misbehave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>
#include <zmq.hpp>

#include "tests/base/resident_bytes.h"
#include "tests/comm/loopback.h"
#include "tests/comm/message_of.h"
#include "tests/server/proxy.h"
#include "tests/server/zmq_servers.h"
#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/server/message.h"
#include "trireme/server/zmq/keys.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using server::Gradient;
using server::Message;
using server::MessageType;
using server::ModelSchema;
using server::TableValues;
using testing::HasSubstr;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kMalformed = 20'000;
constexpr std::size_t kMostForReplies = std::size_t{1} << 30;  // it keeps some of what is freed
constexpr std::size_t kMemory = std::size_t{2} << 30;
#else
constexpr int kMalformed = 1'000'000;
constexpr std::size_t kMostForReplies = std::size_t{160} << 20;
constexpr std::size_t kMemory = std::size_t{128} << 20;
#endif

ModelSchema schema(int workers = 1) {
  return {.dense = {{"w", 64}}, .consistency = {.workers = workers}};
}

/// A worker that has joined and stored zeros.
struct GoodWorker {
  explicit GoodWorker(const server::ServersOptions& options)
      : client(server::connect_servers(options)) {
    client->join(schema());
    client->store(wanted());
  }

  std::vector<TableValues> wanted() { return {{"w", buffer_of(std::span(values))}}; }

  /// Every element goes up by 1 for each of `steps`.
  void push(int steps) {
    std::vector<float> gradient(64, -1.0F);
    for (int i = 0; i < steps; ++i) {
      client->push_pull(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}}, {.lr = 1},
                        wanted());
      ASSERT_THAT(values, testing::Each(static_cast<float>(++steps_done)));
    }
  }

  std::unique_ptr<server::Client> client;
  std::vector<float> values = std::vector<float>(64);
  int steps_done = 0;
};

template <class Condition>
bool comes_true(Condition condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(10ms);
  return condition();
}

/// Sends and receives frames as they are.
class RawDealer {
 public:
  explicit RawDealer(const std::string& endpoint) : RawDealer(endpoint, {}, "") {}

  /// With keys, unless `server_key` is empty.
  RawDealer(const std::string& endpoint, const server::KeyPair& keys, const std::string& server_key)
      : socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    if (!server_key.empty()) {
      socket_.set(zmq::sockopt::curve_serverkey, server_key);
      socket_.set(zmq::sockopt::curve_publickey, keys.public_key);
      socket_.set(zmq::sockopt::curve_secretkey, keys.secret_key);
    }
    socket_.set(zmq::sockopt::rcvtimeo, 20000);
    socket_.connect(endpoint);
  }

  void send(const std::vector<std::string>& frames) {
    for (std::size_t i = 0; i < frames.size(); ++i) {
      socket_.send(zmq::buffer(frames[i]),
                   i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
  std::string receive() {
    zmq::message_t frame;
    if (!socket_.recv(frame)) return "";
    return frame.to_string();
  }
  /// Sends one frame and returns the header of the reply.
  Message ask(const Message& message) {
    send({server::encode_header(message)});
    const std::string reply = receive();
    Message header = server::decode(std::as_bytes(std::span(reply)), {});
    return header;
  }

 private:
  zmq::context_t context_{1};
  zmq::socket_t socket_;
};

TEST(ServerAccess, IsDeniedWithoutKeysExceptOnLoopbackIfAllowed) {
  EXPECT_THAT(message_of<UsageError>([] {
                server::ZmqServer({.endpoint = "tcp://0.0.0.0:0", .insecure_loopback = true});
              }),
              HasSubstr("does not listen on tcp://0.0.0.0:0 without keys"));
  EXPECT_THAT(message_of<UsageError>([] { server::ZmqServer({.endpoint = "tcp://127.0.0.1:0"}); }),
              HasSubstr("--insecure-loopback"));
  EXPECT_THAT(
      message_of<UsageError>([] {
        server::ZmqServer({.endpoint = "tcp://127.0.0.1.example.org:0", .insecure_loopback = true});
      }),
      HasSubstr("without keys"));
  EXPECT_THAT(message_of<UsageError>([] {
                server::ZmqServer({.endpoint = "127.0.0.1:0", .insecure_loopback = true});
              }),
              HasSubstr("an address must be tcp://HOST:PORT"));
  EXPECT_THAT(message_of<UsageError>(
                  [] { server::connect_servers({.addresses = {"tcp://192.0.2.1:7000"}}); }),
              HasSubstr("not on this host: a secret key"));
}

TEST(ServerAccess, NeedsAPortThatNoOtherServerUses) {
  ZmqServers servers(1, false);
  EXPECT_THAT(message_of<UsageError>([&] {
                server::ZmqServer({.endpoint = servers[0].endpoint(), .insecure_loopback = true});
              }),
              HasSubstr("cannot listen on " + servers[0].endpoint()));
}

TEST(ServerAccess, OfAnUnlistedWorkerEndsInAnErrorThatSaysWhatToDo) {
  ZmqServers servers(1, true);
  server::write_key_files(servers.folder() / "strangers", "stranger", server::new_key_pair());
  server::ServersOptions options = servers.options(0);
  options.secret_key = servers.folder() / "strangers" / "stranger.secret";
  const auto stranger = server::connect_servers(options);
  EXPECT_THAT(message_of<CommError>([&] { stranger->join(schema()); }),
              testing::AllOf(
                  HasSubstr("does not accept the key"),
                  HasSubstr(server::read_public_key(servers.folder() / "strangers/stranger.key")),
                  HasSubstr("--clients")));
  EXPECT_TRUE(comes_true([&] { return servers[0].counts().rejected > 0; }));
  EXPECT_EQ(servers[0].counts().requests, 0);
}

TEST(ServerAccess, IsGrantedToAKeyThatIsListedWhileTheServerRuns) {
  ZmqServers servers(1, true);
  server::write_key_files(servers.folder() / "strangers", "late", server::new_key_pair());
  std::filesystem::copy(servers.folder() / "strangers/late.key",
                        servers.folder() / "clients/late.key");
  server::ServersOptions options = servers.options(0);
  options.secret_key = servers.folder() / "strangers" / "late.secret";
  // The list is read once a second.
  std::string what = "not tried";
  EXPECT_TRUE(comes_true([&] {
    what = message_of<CommError>([&] { server::connect_servers(options)->join(schema()); });
    return what == "nothing was thrown";
  })) << what;
}

TEST(ServerAccess, WithAWrongServerKeyEndsInAnError) {
  ZmqServers servers(1, true);
  server::write_key_files(servers.folder() / "others", "server", server::new_key_pair());
  server::ServersOptions options = servers.options(0);
  options.server_keys = {servers.folder() / "others" / "server.key"};
  EXPECT_THAT(message_of<CommError>([&] { server::connect_servers(options)->join(schema()); }),
              HasSubstr("is not its public key"));
  EXPECT_EQ(servers[0].counts().requests, 0);
}

TEST(ServerAccess, OfAWorkerWithoutKeysEndsInAnError) {
  ZmqServers servers(1, true);
  server::ServersOptions options = servers.options(0);
  options.secret_key = "";
  options.server_keys = {};
  EXPECT_THAT(message_of<CommError>([&] { server::connect_servers(options)->join(schema()); }),
              HasSubstr("it wants a key, and this worker has none"));
  EXPECT_EQ(servers[0].counts().requests, 0);
}

TEST(ServerAccess, OfAWorkerOfAnotherVersionEndsInAnErrorReply) {
  ZmqServers servers(1, false);
  RawDealer old(servers[0].endpoint());
  std::string head = server::encode_header({.type = MessageType::kPing, .sequence = 1});
  head[4] = 99;  // the protocol
  old.send({head});
  const std::string answer = old.receive();
  const Message rejection = server::decode(std::as_bytes(std::span(answer)), {});
  EXPECT_EQ(rejection.type, MessageType::kError);
  EXPECT_THAT(rejection.reason, HasSubstr("protocol 2 is wanted, got 99"));
}

TEST(ServerAccess, ToAServerOfAnotherVersionEndsInAnError) {
  zmq::context_t context(1);
  zmq::socket_t fake(context, zmq::socket_type::router);
  fake.set(zmq::sockopt::linger, 1000);
  fake.bind("tcp://127.0.0.1:*");
  std::thread thread([&] {
    zmq::message_t identity;
    zmq::message_t head;
    static_cast<void>(fake.recv(identity));
    static_cast<void>(fake.recv(head));
    std::string answer = server::encode_header({.type = MessageType::kReply, .sequence = 1});
    answer[4] = 3;
    fake.send(identity, zmq::send_flags::sndmore);
    fake.send(zmq::buffer(answer));
  });
  const std::string endpoint = fake.get(zmq::sockopt::last_endpoint);
  const auto client = server::connect_servers({.addresses = {endpoint.c_str()}});
  EXPECT_THAT(message_of<DataError>([&] { client->join(schema()); }),
              testing::AllOf(HasSubstr("server 0 of 1 at tcp://127.0.0.1:"),
                             HasSubstr("protocol 2 is wanted, got 3")));
  thread.join();
}

TEST(ServerAccess, FailsIfNoServerListens) {
  server::ServersOptions options{.addresses = {"tcp://127.0.0.1:1"}};
  options.connect_timeout = 300ms;
  EXPECT_THAT(message_of<CommError>([&] { server::connect_servers(options)->join(schema()); }),
              HasSubstr("no server replies at tcp://127.0.0.1:1"));
}

// Random bytes, truncated headers, wrong counts, and requests that an observer must not make.
std::vector<std::string> malformed(std::mt19937& random) {
  const auto below = [&](std::size_t n) { return random() % n; };
  std::string head = server::encode_header({.type = static_cast<MessageType>(1 + below(10)),
                                            .worker = static_cast<std::uint32_t>(below(3)),
                                            .incarnation = below(5),
                                            .sequence = below(100),
                                            .clock = static_cast<std::int64_t>(below(100)),
                                            .parts = std::vector<server::Part>(below(3)),
                                            .schema = std::string(below(40), '{')});
  switch (below(6)) {
    case 0: {
      std::string bytes(below(300), '\0');
      for (char& byte : bytes) byte = static_cast<char>(random());
      return {bytes};
    }
    case 1:
      return {head.substr(0, below(head.size() + 1))};
    case 2:
      head[below(head.size())] = static_cast<char>(random());
      return {head};
    case 3:
      head[12 + below(4)] = static_cast<char>(random());  // the number of parts
      return {head, std::string(below(100), 'x')};
    case 4:
      return std::vector<std::string>(1 + below(40), "");
    default:
      return {head, std::string(below(64), 'x'), std::string(below(64), 'y')};
  }
}

TEST(ServerUnderAttack, SurvivesAMillionMalformedMessagesWhileAWorkerPushes) {
  std::atomic<int> lines = 0;
  ZmqServers servers(1, false, [&](server::ZmqServer::Options& options) {
    options.log = [&](const std::string&) { ++lines; };
  });
  GoodWorker good(servers.options(0));
  good.push(10);
  const std::size_t before = resident_bytes();
  std::atomic<bool> done = false;
  std::thread attacker([&] {
    RawDealer dealer(servers[0].endpoint());
    std::mt19937 random(1);
    std::vector<std::vector<std::string>> some;
    for (int i = 0; i < 1000; ++i) some.push_back(malformed(random));
    for (int i = 0; i < kMalformed; ++i) dealer.send(some[static_cast<std::size_t>(i) % 1000]);
    // All messages have been read once the last one has been replied to.
    dealer.send(
        {server::encode_header({.type = MessageType::kPing, .worker = 9, .sequence = 12345})});
    for (int i = 0; i < 2 * kMalformed; ++i) {
      const std::string answer = dealer.receive();
      if (answer.empty() || server::sequence_in(std::as_bytes(std::span(answer))) == 12345) {
        break;
      }
    }
    done = true;
  });
  std::size_t most = 0;
  do {
    good.push(20);
    most = std::max(most, resident_bytes());
  } while (!done);
  attacker.join();
  good.push(10);
  EXPECT_GT(servers[0].counts().rejected, kMalformed / 3);
  EXPECT_LT(most, before + kMemory);
  EXPECT_LT(lines, 1000) << "the log of rejections is limited";
  EXPECT_EQ(servers[0].counts().version, good.steps_done);
}

TEST(ServerUnderAttack, RejectsEveryTruncationOfAPush) {
  ZmqServers servers(1, false);
  GoodWorker good(servers.options(0));
  good.push(3);
  RawDealer dealer(servers[0].endpoint());
  const std::string payload(64 * sizeof(float), 'x');
  const std::string head =
      server::encode_header({.type = MessageType::kPush,
                             .worker = 0,
                             .incarnation = 1,
                             .sequence = 1000,
                             .lr = 1,
                             .parts = {{.kind = server::PartKind::kGradient,
                                        .count = 64,
                                        .payload = std::as_bytes(std::span(payload))}}});
  for (std::size_t i = 0; i < head.size(); ++i) dealer.send({head.substr(0, i), payload});
  for (std::size_t i = 0; i < payload.size(); ++i) dealer.send({head, payload.substr(0, i)});
  const auto cuts = static_cast<std::int64_t>(head.size() + payload.size());
  EXPECT_TRUE(comes_true([&] { return servers[0].counts().rejected == cuts; }));
  // Complete, but not from worker 0.
  dealer.send({head, payload});
  const std::string answer = dealer.receive();
  EXPECT_THAT(server::decode(std::as_bytes(std::span(answer)), {}).reason,
              HasSubstr("another process has joined as worker 0"));
  good.push(3);
}

TEST(ServerUnderAttack, DoesNotReadOversizedMessages) {
  ZmqServers servers(
      1, false, [](server::ZmqServer::Options& options) { options.max_message_bytes = 1 << 20; });
  GoodWorker good(servers.options(0));
  const std::size_t before = resident_bytes();
  for (int i = 0; i < 20; ++i) {
    RawDealer dealer(servers[0].endpoint());
    dealer.send({std::string(32 << 20, 'x')});
    good.push(5);
  }
  // In several frames: received, and rejected with a reason.
  RawDealer dealer(servers[0].endpoint());
  dealer.send({server::encode_header({.type = MessageType::kPing, .sequence = 7}),
               std::string(1 << 19, 'x'), std::string(1 << 19, 'x')});
  const std::string answer = dealer.receive();
  const Message rejection = server::decode(std::as_bytes(std::span(answer)), {});
  EXPECT_EQ(rejection.sequence, 7U);
  EXPECT_THAT(rejection.reason, HasSubstr("--max-message-bytes"));
  EXPECT_LT(resident_bytes(), before + kMemory);
}

TEST(ServerUnderAttack, TellsAWorkerWhoseRequestsAreTooLarge) {
  ZmqServers servers(
      1, false, [](server::ZmqServer::Options& options) { options.max_message_bytes = 1 << 20; });
  const auto client = server::connect_servers(servers.options(0));
  const std::int64_t count = 1 << 20;
  client->join({.dense = {{"w", count}}});
  std::vector<float> values(static_cast<std::size_t>(count));
  EXPECT_THAT(message_of<CommError>([&] {
                client->store(std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
              }),
              HasSubstr("--max-message-bytes"));
}

TEST(ServerUnderAttack, ClosesConnectionsOfOtherProtocols) {
  ZmqServers servers(1, false,
                     [](server::ZmqServer::Options& options) { options.max_connections = 64; });
  GoodWorker good(servers.options(0));
  const std::size_t before = resident_bytes();
  std::mt19937 random(2);
  for (int i = 0; i < 300; ++i) {
    const FileDescriptor stranger = connected_to(port_of(servers[0].endpoint()));
    if (!stranger.is_open()) continue;  // full just now
    std::string bytes(random() % 2000, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    if (i % 3 == 0) bytes = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if (i % 3 == 1) bytes = "\xff" + std::string(7, '\0') + "\x01\x7f\x03" + bytes;  // ZMTP, then
    static_cast<void>(::send(stranger.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
    if (i % 10 == 0) good.push(1);
  }
  EXPECT_TRUE(comes_true([&] { return servers[0].counts().connections <= 2; }))
      << servers[0].counts().connections;
  EXPECT_LT(resident_bytes(), before + kMemory);
  good.push(5);
}

TEST(ServerUnderAttack, ClosesConnectionsAboveItsLimit) {
  constexpr int kMost = 16;
  ZmqServers servers(1, false,
                     [](server::ZmqServer::Options& options) { options.max_connections = kMost; });
  GoodWorker good(servers.options(0));
  {
    std::vector<FileDescriptor> silent;
    for (int i = 0; i < 500; ++i) {
      silent.push_back(connected_to(port_of(servers[0].endpoint())));
      if (i % 50 == 0) good.push(1);
    }
    EXPECT_TRUE(comes_true([&] { return servers[0].counts().connections <= kMost; }));
    good.push(5);
  }
  // They have gone: other clients can connect.
  server::ServersOptions options = servers.options(0);
  EXPECT_TRUE(comes_true([&] { return servers[0].counts().connections < kMost; }));
  const auto late = server::connect_servers(options);
  std::vector<float> values(64);
  late->join(schema());
  late->pull(std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
  EXPECT_EQ(values, good.values);
}

TEST(ServerUnderAttack, RejectsReadsAboveItsLimit) {
  ZmqServers servers(1, false, [](server::ZmqServer::Options& options) {
    options.max_message_bytes = 4096;
    options.max_model_bytes = 1 << 20;
  });
  GoodWorker good(servers.options(0));
  RawDealer dealer(servers[0].endpoint());
  dealer.send(
      {server::encode_header({.type = MessageType::kFetch,
                              .worker = server::kObserver,
                              .sequence = 1,
                              .parts = std::vector<server::Part>(
                                  100, {.kind = server::PartKind::kReadRange, .count = 64})})});
  const std::string answer = dealer.receive();
  EXPECT_THAT(server::decode(std::as_bytes(std::span(answer)), {}).reason,
              HasSubstr("replies with at most 4096 bytes, and the request reads 25600"));
  good.push(1);
  ZmqServers small(1, false,
                   [](server::ZmqServer::Options& options) { options.max_model_bytes = 1 << 20; });
  const auto client = server::connect_servers(small.options(0));
  EXPECT_THAT(message_of<UsageError>([&] {
                client->join({.dense = {{"w", std::int64_t{1} << 45}}});
              }),
              HasSubstr("may hold 1048576 bytes"));
  client->join(schema());
}

TEST(ServerUnderAttack, MakesFewRepliesForAClientThatDoesNotRead) {
  constexpr std::int64_t kCount = 2 << 20;  // 8 MiB
  ZmqServers servers(1, false);
  const auto client = server::connect_servers(servers.options(0));
  client->join({.dense = {{"w", kCount}}, .consistency = {.workers = 1}});
  std::vector<float> values(kCount);
  const std::vector<TableValues> wanted = {{"w", buffer_of(std::span(values))}};
  client->store(wanted);
  const std::size_t before = resident_bytes();
  {
    RawDealer silent(servers[0].endpoint());
    const std::int64_t requests = servers[0].counts().requests;
    for (std::uint64_t sequence = 1; sequence <= 200; ++sequence) {
      silent.send({server::encode_header(
          {.type = MessageType::kFetch,
           .worker = server::kObserver,
           .sequence = sequence,
           .parts = {{.kind = server::PartKind::kReadRange, .count = kCount}}})});
    }
    EXPECT_TRUE(comes_true([&] { return servers[0].counts().requests >= requests + 3; }));
    std::this_thread::sleep_for(500ms);
    // Two replies, and what the kernel and this end have taken.
    EXPECT_LE(servers[0].counts().unsent_bytes, std::size_t{2} * 4 * kCount + 65536);
    EXPECT_LT(resident_bytes(), before + kMostForReplies);
    // Others are served meanwhile, again and again.
    for (int i = 0; i < 20; ++i) client->pull(wanted);
  }
  EXPECT_TRUE(comes_true([&] { return servers[0].counts().unsent_bytes == 0; }));
}

TEST(ServerUnderAttack, LogsWhoPushesWhatIsNotFinite) {
  std::mutex mutex;
  std::string log;
  ZmqServers servers(1, false, [&](server::ZmqServer::Options& options) {
    options.log = [&](const std::string& line) {
      const std::lock_guard lock(mutex);
      log += line + "\n";
    };
  });
  GoodWorker good(servers.options(0));
  std::vector<float> gradient(64);
  gradient[17] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(message_of<UsageError>([&] {
                good.client->push_pull(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}},
                                       {.lr = 1}, good.wanted());
              }),
              HasSubstr("w: a gradient must have finite values, got nan in element 17 of 64"));
  EXPECT_TRUE(comes_true([&] {
    const std::lock_guard lock(mutex);
    return log.find("a push of worker 0: w: a gradient must have") != std::string::npos;
  }));
  good.push(1);
}

TEST(ServerUnderAttack, LetsAClientSpeakForItsOwnWorkerAlone) {
  ZmqServers servers(1, true);
  const server::KeyPair mallory = server::new_key_pair();
  server::write_key_files(servers.folder() / "clients", "mallory", mallory);
  const auto worker = server::connect_servers(servers.options(0));
  worker->join(schema());
  std::vector<float> values(64);
  const std::vector<TableValues> wanted = {{"w", buffer_of(std::span(values))}};
  worker->store(wanted);
  std::this_thread::sleep_for(1500ms);  // until the new key is read
  RawDealer dealer(servers[0].endpoint(), mallory, servers[0].public_key());
  for (const MessageType type : {MessageType::kPush, MessageType::kLeave, MessageType::kDrain,
                                 MessageType::kSuperseded, MessageType::kPull}) {
    const Message refused =
        dealer.ask({.type = type, .worker = 0, .incarnation = 1, .sequence = 1});
    EXPECT_EQ(refused.error, server::ErrorCode::kUsage);
    EXPECT_THAT(refused.reason, HasSubstr("worker 0 has joined with another key than that of "
                                          "mallory"));
  }
  const Message join = dealer.ask({.type = MessageType::kJoin,
                                   .worker = 0,
                                   .incarnation = 9,
                                   .sequence = 2,
                                   .shard = {0, 1},
                                   .schema = to_json(schema())});
  EXPECT_THAT(join.reason, HasSubstr("give this worker another number"));
  worker->pull(wanted);
}

TEST(ServerUnderAttack, IsNotEndedByAWorkerThatClaimsThatAnotherServerSupersedesIt) {
  ZmqServers servers(1, false);
  RawDealer dealer(servers[0].endpoint());
  dealer.send({server::encode_header({.type = MessageType::kJoin,
                                      .worker = 0,
                                      .incarnation = 7,
                                      .sequence = 1,
                                      .shard = {0, 1},
                                      .schema = to_json(schema())})});
  const std::string joined = dealer.receive();
  EXPECT_EQ(server::decode(std::as_bytes(std::span(joined)), {}).type, MessageType::kReply);
  dealer.send({server::encode_header(
      {.type = MessageType::kSuperseded, .worker = 0, .incarnation = 7, .sequence = 2})});
  const std::string refused = dealer.receive();
  EXPECT_EQ(server::decode(std::as_bytes(std::span(refused)), {}).type, MessageType::kError);
  EXPECT_FALSE(servers[0].wait_until_over(0ms));
}

}  // namespace
}  // namespace trireme::test
