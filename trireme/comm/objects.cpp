#include "trireme/comm/objects.h"

#include <fmt/format.h>

#include <numeric>

#include "trireme/base/error.h"

namespace trireme {

namespace {

Buffer bytes_of(std::string_view object) {
  return {const_cast<char*>(object.data()), std::ssize(object), DType::kU8};
}

std::vector<std::int64_t> lengths_of_all(Communicator& communicator, std::string_view object,
                                         SourceLocation where) {
  std::int64_t length = std::ssize(object);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(communicator.size()));
  communicator.all_gather(buffer_of<std::int64_t>(lengths), {&length, 1, DType::kI64}, where)
      .wait();
  return lengths;
}

std::vector<std::string> cut(std::string_view all, std::span<const std::int64_t> lengths) {
  std::vector<std::string> objects;
  std::size_t begin = 0;
  for (const std::int64_t length : lengths) {
    objects.emplace_back(all.substr(begin, static_cast<std::size_t>(length)));
    begin += static_cast<std::size_t>(length);
  }
  return objects;
}

std::size_t sum_of(std::span<const std::int64_t> lengths) {
  return static_cast<std::size_t>(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
}

}  // namespace

std::vector<std::string> all_gather_objects(Communicator& communicator, std::string_view object,
                                            SourceLocation where) {
  const auto lengths = lengths_of_all(communicator, object, where);
  std::string all(sum_of(lengths), '\0');
  communicator.all_gather(bytes_of(all), bytes_of(object), lengths, where).wait();
  return cut(all, lengths);
}

std::vector<std::string> gather_objects(Communicator& communicator, std::string_view object,
                                        int root, SourceLocation where) {
  if (root < 0 || root >= communicator.size()) {
    throw UsageError(
        fmt::format("gather_objects: root must be a rank in [0, {}), got {} (rank {} of "
                    "{})",
                    communicator.size(), root, communicator.rank(), communicator.size()));
  }
  const auto lengths = lengths_of_all(communicator, object, where);
  // This is an all_to_all in which only the root receives, because the pieces of a gather are
  // equal.
  const auto size = static_cast<std::size_t>(communicator.size());
  std::vector<std::int64_t> sent(size);
  sent[static_cast<std::size_t>(root)] = std::ssize(object);
  const bool is_root = communicator.rank() == root;
  const auto received = is_root ? lengths : std::vector<std::int64_t>(size);
  std::string all(sum_of(received), '\0');
  communicator.all_to_all(bytes_of(all), received, bytes_of(object), sent, where).wait();
  return is_root ? cut(all, lengths) : std::vector<std::string>();
}

std::string broadcast_object(Communicator& communicator, std::string object, int root,
                             SourceLocation where) {
  std::int64_t length = std::ssize(object);
  communicator.broadcast({&length, 1, DType::kI64}, root, where).wait();
  object.resize(static_cast<std::size_t>(length));
  communicator.broadcast(bytes_of(object), root, where).wait();
  return object;
}

}  // namespace trireme
