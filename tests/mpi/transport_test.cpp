#include <gtest/gtest.h>
#include <mpi.h>

#include <array>
#include <cstring>
#include <future>
#include <numeric>
#include <thread>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::test {
namespace {

using message::Arrival;
using message::Chunk;
using message::Deadline;
using message::Frame;
using message::FrameKind;
using message::Transfer;
using message::Transport;

Deadline in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}
Deadline soon() {
  return in(std::chrono::minutes(1));
}

std::vector<int> letter(int from, int to, int tag, std::size_t bytes) {
  std::vector<int> words(bytes / sizeof(int));
  std::iota(words.begin(), words.end(), from * 1'000'000 + to * 100'000 + tag * 1000);
  return words;
}
Chunk chunk(int peer, std::vector<int>& words) {
  return {peer, words.data(), words.size() * sizeof(int)};
}

class MpiTransport : public testing::Test {
 protected:
  int rank() const { return world_->rank(); }
  int size() const { return world_->size(); }
  int next() const { return (rank() + 1) % size(); }
  int previous() const { return (rank() + size() - 1) % size(); }
  std::vector<int> others() const {
    std::vector<int> ranks;
    for (int r = 0; r < size(); ++r) {
      if (r != rank()) ranks.push_back(r);
    }
    return ranks;
  }

  std::unique_ptr<Transfer> send(int tag, Chunk chunk) {
    return world_->begin(tag, {&chunk, 1}, {});
  }
  std::unique_ptr<Transfer> receive(int tag, Chunk chunk) {
    return world_->begin(tag, {}, {&chunk, 1});
  }

  // A barrier of the ranks.
  void meet() {
    std::vector<Chunk> sends, receives;
    std::vector<char> bytes(size());
    for (const int other : others()) {
      sends.push_back({other, &bytes[rank()], 1});
      receives.push_back({other, &bytes[other], 1});
    }
    world_->begin(world_->tags() - 1, sends, receives)->wait(soon());
  }

  // Every rank sends every other a letter and reads theirs.
  void exchange_letters(Transport& transport, int tag, std::size_t bytes) {
    std::vector<std::vector<int>> out(size()), in(size());
    std::vector<Chunk> sends, receives;
    for (const int other : others()) {
      out[other] = letter(rank(), other, tag, bytes);
      in[other].resize(out[other].size());
      sends.push_back(chunk(other, out[other]));
      receives.push_back(chunk(other, in[other]));
    }
    transport.begin(tag, sends, receives)->wait(soon());
    for (const int other : others()) {
      ASSERT_EQ(in[other], letter(other, rank(), tag, bytes)) << "from " << other;
    }
  }

  std::unique_ptr<Transport> world_ = mpi::world();
};

TEST_F(MpiTransport, FramesArriveInTheOrderInWhichTheyWereSent) {
  constexpr std::uint64_t kFrames = 500;
  for (std::uint64_t i = 0; i < kFrames; ++i) {
    Frame frame;
    frame.header = {.kind = FrameKind::kAnnouncement, .channel = 7, .number = i};
    frame.set_payload(std::string(i * 2 % (message::kInlineBytes + 1), static_cast<char>(i)));
    for (const int other : others()) world_->send_frame(other, frame);
  }
  std::vector<std::uint64_t> wanted(size());
  for (std::uint64_t i = 0; i < kFrames * others().size(); ++i) {
    const auto arrival = world_->next_frame(std::chrono::seconds(60));
    ASSERT_TRUE(arrival && arrival->lost.empty()) << i;
    const std::uint64_t number = wanted[arrival->from]++;
    ASSERT_EQ(arrival->frame.header.number, number) << "from " << arrival->from;
    ASSERT_EQ(arrival->frame.header.channel, 7u);
    ASSERT_EQ(arrival->frame.text(),
              std::string(number * 2 % (message::kInlineBytes + 1), static_cast<char>(number)));
  }
  EXPECT_FALSE(world_->next_frame(std::chrono::milliseconds(10)));
}

TEST_F(MpiTransport, ChunksGoBothWaysAtOnce) {
  for (const std::size_t bytes : {4, 4096, 4100, 100'000, 3'000'000}) {
    exchange_letters(*world_, 3, bytes);
  }
}

TEST_F(MpiTransport, ChunksOfOneTagKeepTheirOrderInEveryOrderOfWaits) {
  constexpr int kLetters = 40;
  const auto bytes_of = [](int i) { return i % 3 == 0 ? 400 : 5000 * i; };
  std::vector<std::vector<int>> out(kLetters), in(kLetters);
  std::vector<std::unique_ptr<Transfer>> transfers;
  for (int i = 0; i < kLetters; ++i) {
    out[i] = letter(rank(), next(), i, bytes_of(i));
    in[i].resize(out[i].size());
    // Half of the ranks ask before the letters are sent.
    if (rank() % 2 == 0) transfers.push_back(receive(5, chunk(previous(), in[i])));
  }
  for (int i = 0; i < kLetters; ++i) transfers.push_back(send(5, chunk(next(), out[i])));
  if (rank() % 2 != 0) {
    for (int i = 0; i < kLetters; ++i) transfers.push_back(receive(5, chunk(previous(), in[i])));
  }
  while (!transfers.empty()) {
    transfers.back()->wait(soon());
    transfers.pop_back();
  }
  for (int i = 0; i < kLetters; ++i) {
    ASSERT_EQ(in[i], letter(previous(), rank(), i, bytes_of(i))) << i;
  }
}

TEST_F(MpiTransport, TagsAreKeptApart) {
  const int tags[] = {0, 1, world_->tags() - 2};
  std::vector<std::vector<int>> out, in(3);
  std::vector<std::unique_ptr<Transfer>> transfers;
  for (const int tag : tags) out.push_back(letter(rank(), next(), tag % 100, 8000));
  for (int i = 0; i < 3; ++i) transfers.push_back(send(tags[i], chunk(next(), out[i])));
  for (int i = 2; i >= 0; --i) {
    in[i].resize(out[i].size());
    receive(tags[i], chunk(previous(), in[i]))->wait(soon());
    ASSERT_EQ(in[i], letter(previous(), rank(), tags[i] % 100, 8000));
  }
  for (const auto& transfer : transfers) transfer->wait(soon());
}

TEST_F(MpiTransport, AChunkOfSeveralPartsArrivesWhole) {
  constexpr std::size_t kBytes = 150'000'004;  // parts are 64 MiB
  if (size() > 1 && rank() == 0) {
    auto out = letter(0, 1, 0, kBytes);
    send(0, chunk(1, out))->wait(soon());
  } else if (rank() == 1) {
    std::vector<int> in(kBytes / sizeof(int));
    receive(0, chunk(0, in))->wait(soon());
    EXPECT_TRUE(in == letter(0, 1, 0, kBytes));
  }
  meet();
}

TEST_F(MpiTransport, FramesComeWhileATransferIsWaitedFor) {
  if (size() == 1) return;
  std::vector<int> word(1);
  const auto transfer = receive(1, chunk(previous(), word));
  auto waited = std::async(std::launch::async, [&] { transfer->wait(soon()); });
  // The chunk is sent in answer to the frame.
  world_->send_frame(next(), Frame{});
  const auto arrival = world_->next_frame(std::chrono::seconds(60));
  ASSERT_TRUE(arrival);
  EXPECT_EQ(arrival->from, previous());
  std::vector<int> answer{rank()};
  send(1, chunk(next(), answer))->wait(soon());
  waited.get();
  EXPECT_EQ(word[0], previous());
}

TEST_F(MpiTransport, TwoOfOneProgramDoNotMixTheirChunks) {
  const auto second = mpi::world();
  exchange_letters(*world_, 2, 5000);
  exchange_letters(*second, 2, 100);
  auto first_words = letter(rank(), next(), 1, 100);
  auto second_words = letter(rank(), next(), 2, 100);
  std::vector<int> in(first_words.size());
  send(2, chunk(next(), first_words))->wait(soon());
  const Chunk sent = chunk(next(), second_words);
  const Chunk received = chunk(previous(), in);
  second->begin(2, {&sent, 1}, {&received, 1})->wait(soon());
  EXPECT_EQ(in, letter(previous(), rank(), 2, 100));
  receive(2, received)->wait(soon());
  EXPECT_EQ(in, letter(previous(), rank(), 1, 100));
}

std::string name_of(int rank, int size) {
  return "(rank " + std::to_string(rank) + " of " + std::to_string(size) + ")";
}

void expect_silent_peer(Transfer& transfer, int peer, const std::string& message) {
  try {
    transfer.wait(in(std::chrono::milliseconds(100)));
    FAIL() << "nothing was thrown";
  } catch (const CommError& error) {
    EXPECT_EQ(std::string(error.what()), message);
    EXPECT_EQ(error.lost_rank(), peer);
  }
}

TEST_F(MpiTransport, DeadlineNamesThePeerThatDoesNotSend) {
  if (size() == 1) return;
  for (const std::size_t bytes : {40, 40'000}) {
    std::vector<int> words(bytes / sizeof(int));
    expect_silent_peer(*receive(9, chunk(next(), words)), next(),
                       "mpi: rank " + std::to_string(next()) + " did not send " +
                           std::to_string(bytes) + " bytes with tag 9 in time " +
                           name_of(rank(), size()));
  }
  meet();
}

TEST_F(MpiTransport, DeadlineNamesThePeerThatDoesNotTake) {
  if (size() == 1) return;
  auto words = letter(rank(), next(), 0, 40'000);
  expect_silent_peer(*send(9, chunk(next(), words)), next(),
                     "mpi: rank " + std::to_string(next()) +
                         " did not take 40000 bytes with tag 9 in time " + name_of(rank(), size()));
  meet();
}

TEST_F(MpiTransport, MemoryOfAnAbandonedTransferIsFreeAtOnce) {
  if (size() == 1) return;
  constexpr std::size_t kBytes = 2'000'000;
  const std::vector<int> untouched(kBytes / sizeof(int), -1);
  std::vector<int> in = untouched;
  auto out = letter(rank(), next(), 0, kBytes);
  std::vector<int> small_in(4, -1);
  std::vector<int> small_out(4, 1);
  receive(4, chunk(previous(), in)).reset();
  receive(4, chunk(previous(), small_in)).reset();
  meet();
  // These chunks have no receiver any more.
  {
    const auto late = send(4, chunk(next(), out));
    send(4, chunk(next(), small_out))->wait(soon());
    meet();
  }
  meet();
  EXPECT_EQ(in, untouched);
  EXPECT_EQ(small_in, std::vector<int>(4, -1));
  exchange_letters(*world_, 6, kBytes);
}

TEST_F(MpiTransport, ALateSenderGetsAnError) {
  if (size() == 1) return;
  std::vector<int> words(10'000);
  receive(4, chunk(previous(), words)).reset();
  world_->send_frame(previous(), Frame{});
  ASSERT_TRUE(world_->next_frame(std::chrono::seconds(60)));
  const auto late = send(4, chunk(next(), words));
  try {
    late->wait(soon());
    FAIL() << "nothing was thrown";
  } catch (const CommError& error) {
    EXPECT_EQ(std::string(error.what()), "mpi: rank " + std::to_string(next()) +
                                             " no longer waits for 40000 bytes with tag 4 " +
                                             name_of(rank(), size()));
    EXPECT_EQ(error.lost_rank(), next());
  }
  meet();
}

TEST_F(MpiTransport, AChunkWithoutAReceiverIsDiscarded) {
  constexpr std::size_t kBytes = 4'000'000;
  std::vector<int> in(kBytes / sizeof(int));
  auto first = letter(0, 1, 1, kBytes);
  auto second = letter(0, 1, 2, kBytes);
  if (size() > 1 && rank() == 0) {
    const auto unwanted = send(4, chunk(1, first));
    const auto wanted = send(4, chunk(1, second));
    // By now the receiver has granted and abandoned the first chunk; this rank receives both
    // messages at once.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    unwanted->wait(soon());
    wanted->wait(soon());
  } else if (rank() == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    receive(4, chunk(0, in)).reset();
    receive(4, chunk(0, in))->wait(soon());
    EXPECT_TRUE(in == second);
  }
  meet();
}

TEST_F(MpiTransport, AnAbandonedChunkIsNotReceivedAsTheNextOne) {
  if (size() == 1) return;
  auto lost = letter(rank(), next(), 1, 60'000);
  send(4, chunk(next(), lost)).reset();
  meet();
  std::vector<int> in(60'000 / sizeof(int));
  // This receive must not get the chunk that was abandoned.
  expect_silent_peer(*receive(4, chunk(previous(), in)), previous(),
                     "mpi: rank " + std::to_string(previous()) +
                         " did not send 60000 bytes with tag 4 in time " + name_of(rank(), size()));
  meet();
  exchange_letters(*world_, 4, 60'000);
}

TEST_F(MpiTransport, AbortEndsTheWaitOfAnotherThread) {
  if (size() == 1) return;
  for (const std::size_t bytes : {40, 40'000}) {
    std::vector<int> words(bytes / sizeof(int));
    for (const auto& transfer :
         {receive(9, chunk(next(), words)).release(), send(8, chunk(next(), words)).release()}) {
      const std::unique_ptr<Transfer> owned(transfer);
      if (transfer == nullptr) continue;
      auto waited = std::async(std::launch::async, [&] { owned->wait(soon()); });
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      owned->abort();
      // A small chunk is sent at once, so its wait may succeed.
      try {
        waited.get();
        EXPECT_LE(bytes, 4096u);
      } catch (const CommError& error) {
        EXPECT_EQ(std::string(error.what()),
                  "mpi: a transfer was ended " + name_of(rank(), size()));
      }
    }
  }
  meet();
}

TEST_F(MpiTransport, AbortBeforeTheWaitEndsItToo) {
  if (size() == 1) return;
  std::vector<int> words(10'000);
  const auto transfer = receive(9, chunk(next(), words));
  transfer->abort();
  EXPECT_THROW(transfer->wait(soon()), CommError);
  meet();
}

// The last rank plays an older trireme: it makes the MPI calls of world() by hand.
TEST_F(MpiTransport, ReleasesThatDoNotFitTogetherAreRefusedOnEveryRank) {
  if (size() == 1) return;
  const std::string old = "trireme 0.0.1, frames of 12 bytes, 3 ranks";
  if (rank() == size() - 1) {
    std::array<MPI_Comm, 4> comms;
    MPI_Request request = MPI_REQUEST_NULL;
    for (MPI_Comm& comm : comms) {
      MPI_Comm_idup(MPI_COMM_WORLD, &comm, &request);
      MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    std::array<char, 128> own{};
    old.copy(own.data(), own.size());
    std::vector<char> all(own.size() * size());
    MPI_Iallgather(own.data(), own.size(), MPI_CHAR, all.data(), own.size(), MPI_CHAR, comms[0],
                   &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
  } else {
    try {
      mpi::world();
      FAIL() << "nothing was thrown";
    } catch (const UsageError& error) {
      EXPECT_EQ(std::string(error.what())
                    .find("connect: rank " + std::to_string(size() - 1) + " is \"" + old +
                          "\", this rank is \""),
                0u)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace trireme::test
