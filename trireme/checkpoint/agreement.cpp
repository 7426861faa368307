#include "trireme/checkpoint/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "trireme/base/error.h"

namespace trireme {

namespace {

// The first byte of what a rank sends.
constexpr char kDone = '+';
constexpr char kUsageError = 'u';
constexpr char kDataError = 'd';

std::string outcome_of(const std::function<std::string()>& part) {
  try {
    return kDone + part();
  } catch (const UsageError& error) {
    return kUsageError + std::string(error.what());
  } catch (const std::exception& error) {
    return kDataError + std::string(error.what());
  }
}

std::vector<std::string> all_gather_texts(Communicator& world, const std::string& mine) {
  const auto ranks = static_cast<std::size_t>(world.size());
  std::int64_t length = static_cast<std::int64_t>(mine.size());
  std::vector<std::int64_t> lengths(ranks);
  world.all_gather(buffer_of(std::span(lengths)), {&length, 1, DType::kI64}).wait();

  const auto longest = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
  std::vector<std::uint8_t> padded(longest);
  std::copy(mine.begin(), mine.end(), padded.begin());
  std::vector<std::uint8_t> all(ranks * longest);
  world.all_gather(buffer_of(std::span(all)), buffer_of(std::span(padded))).wait();

  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(rank * longest);
    texts.emplace_back(begin, begin + lengths[rank]);
  }
  return texts;
}

}  // namespace

std::vector<std::string> agree(Communicator& world, const std::function<std::string()>& part) {
  std::vector<std::string> outcomes = all_gather_texts(world, outcome_of(part));
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    const char kind = outcomes[rank].front();
    outcomes[rank].erase(0, 1);
    if (kind == kDone) continue;
    const std::string& reason = outcomes[rank];
    const std::string message =
        world.size() == 1 ? reason : fmt::format("{} (rank {} of {})", reason, rank, world.size());
    if (kind == kUsageError) throw UsageError(message);
    throw DataError(message);
  }
  return outcomes;
}

}  // namespace trireme
