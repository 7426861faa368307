#include <numeric>

#include "tests/comm/backends.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

class Messages : public OnEveryBackend {};

std::vector<int> letter(int from, int tag, std::size_t count) {
  std::vector<int> words(count);
  std::iota(words.begin(), words.end(), from * 1'000'000 + tag * 1000);
  return words;
}

TEST_P(Messages, GoRoundARing) {
  run([](Communicator& world) {
    const int n = world.size();
    for (const std::size_t count : {0, 1, 1000, 300'000}) {
      std::vector<int> out = letter(world.rank(), 0, count);
      std::vector<int> in(count);
      Work sent = world.send(buffer_of<int>(out), (world.rank() + 1) % n);
      world.recv(buffer_of<int>(in), (world.rank() + n - 1) % n).wait();
      sent.wait();
      ASSERT_EQ(in, letter((world.rank() + n - 1) % n, 0, count));
    }
  });
}

TEST_P(Messages, AreMatchedByTagWhateverTheOrder) {
  run([](Communicator& world) {
    std::vector<Work> works;
    std::vector<std::vector<int>> out;
    std::vector<std::vector<int>> in(5 * world.size());
    for (int tag = 0; tag < 5; ++tag) out.push_back(letter(world.rank(), tag, tag * 9000 + 1));
    for (int to = 0; to < world.size(); ++to) {
      for (int tag = 0; tag < 5; ++tag) {
        works.push_back(world.send(buffer_of<int>(out[tag]), to, tag));
      }
    }
    for (int tag = 4; tag >= 0; --tag) {
      for (int from = 0; from < world.size(); ++from) {
        std::vector<int>& x = in[from * 5 + tag];
        x.resize(tag * 9000 + 1);
        works.push_back(world.recv(buffer_of<int>(x), from, tag));
      }
    }
    for (Work& work : works) work.wait();
    for (int from = 0; from < world.size(); ++from) {
      for (int tag = 0; tag < 5; ++tag) {
        ASSERT_EQ(in[from * 5 + tag], letter(from, tag, tag * 9000 + 1));
      }
    }
  });
}

TEST_P(Messages, OfOneTagArriveInOrder) {
  run([](Communicator& world) {
    const int to = (world.rank() + 1) % world.size();
    const int from = (world.rank() + world.size() - 1) % world.size();
    std::vector<int> out(2000);
    std::vector<int> in(2000);
    std::iota(out.begin(), out.end(), 0);
    std::vector<Work> works;
    for (int i = 0; i < 2000; ++i) works.push_back(world.send({&out[i], 1, DType::kI32}, to, 3));
    for (int i = 0; i < 2000; ++i) works.push_back(world.recv({&in[i], 1, DType::kI32}, from, 3));
    for (Work& work : works) work.wait();
    EXPECT_EQ(in, out);
  });
}

TEST_P(Messages, LargerThanTheRingCrossBetweenAllPairs) {
  run([](Communicator& world) {
    constexpr std::size_t kCount = 250'000;
    const std::vector<int> out = letter(world.rank(), 1, kCount);
    std::vector<std::vector<int>> in(world.size(), std::vector<int>(kCount));
    std::vector<Work> works;
    for (int repeat = 0; repeat < 2; ++repeat) {
      for (int peer = 0; peer < world.size(); ++peer) {
        works.push_back(world.send({const_cast<int*>(out.data()), kCount, DType::kI32}, peer));
      }
    }
    for (int repeat = 0; repeat < 2; ++repeat) {
      for (int peer = 0; peer < world.size(); ++peer) {
        works.push_back(world.recv(buffer_of<int>(in[peer]), peer));
      }
    }
    for (Work& work : works) work.wait();
    for (int peer = 0; peer < world.size(); ++peer) ASSERT_EQ(in[peer], letter(peer, 1, kCount));
  });
}

TEST_P(Messages, AreUnderWayWhileCollectivesRun) {
  run([](Communicator& world) {
    constexpr std::size_t kCount = 200'000;
    const int to = (world.rank() + 1) % world.size();
    const int from = (world.rank() + world.size() - 1) % world.size();
    std::vector<int> out = letter(world.rank(), 2, kCount);
    std::vector<int> in(kCount);
    Work sent = world.send(buffer_of<int>(out), to, 2);
    Work received = world.recv(buffer_of<int>(in), from, 2);
    std::vector<int> x(100'000, 1);
    for (int i = 0; i < 5; ++i) world.broadcast(buffer_of<int>(x), i % world.size()).wait();
    world.barrier();
    sent.wait();
    received.wait();
    EXPECT_EQ(in, letter(from, 2, kCount));
  });
}

TEST_P(Messages, OfAnotherTypeOrCountAreRefusedNamingBoth) {
  run([](Communicator& world) {
    const int to = (world.rank() + 1) % world.size();
    const int from = (world.rank() + world.size() - 1) % world.size();
    std::vector<double> out(10);
    std::vector<float> in(10);
    Work sent = world.send(buffer_of<double>(out), to, 4);
    try {
      world.recv(buffer_of<float>(in), from, 4).wait();
      FAIL() << "nothing was thrown";
    } catch (const UsageError& error) {
      EXPECT_EQ(std::string(error.what()), "recv: rank " + std::to_string(from) +
                                               " sent f64[10] with tag 4, wanted f32[10]" +
                                               " (rank " + std::to_string(world.rank()) + " of " +
                                               std::to_string(world.size()) + ")");
    }
    sent.wait();
    world.barrier();
  });
}

TRIREME_ON_EVERY_BACKEND(Messages);

}  // namespace
}  // namespace trireme::test
