#include "trireme/checkpoint/model_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>

#include "trireme/base/error.h"
#include "trireme/comm/objects.h"

namespace trireme {

namespace {

constexpr std::int64_t kPieceElements = std::int64_t{1} << 18;
constexpr std::int64_t kEnd = -1;

std::int64_t size_of_piece(std::int64_t count, std::int64_t at) {
  return std::min(kPieceElements, count - at);
}

std::string described(std::span<const StateTensor> mine) {
  nlohmann::json parts = nlohmann::json::array();
  for (const StateTensor& tensor : mine) {
    if (!tensor.is_written) continue;
    if (!tensor.region.cuts().empty()) {
      throw UsageError(fmt::format("a model of parts: {}{} is no range of the whole tensor",
                                   tensor.name, to_string(tensor.region)));
    }
    parts.push_back({tensor.name, static_cast<int>(tensor.values.dtype),
                     elements_of(tensor.region.full_shape()), tensor.region.range().begin,
                     tensor.region.count()});
  }
  return parts.dump();
}

}  // namespace

ModelParts::ModelParts(Communicator& world, std::span<const StateTensor> mine) : world_(world) {
  std::map<std::string, std::int64_t> elements;
  const std::vector<std::string> of_ranks = all_gather_objects(world, described(mine));
  for (int rank = 0; rank < world.size(); ++rank) {
    for (const auto& part : nlohmann::json::parse(of_ranks[static_cast<std::size_t>(rank)])) {
      const std::string name = part[0];
      const auto [known, is_new] = index_of_.try_emplace(name, tensors_.size());
      if (is_new) tensors_.push_back({.dtype = static_cast<DType>(part[1].get<int>())});
      elements[name] = part[2];
      tensors_[known->second].parts.push_back({.rank = rank, .begin = part[3], .count = part[4]});
    }
  }
  for (const auto& [name, index] : index_of_) {
    std::int64_t covered = 0;
    std::ranges::sort(tensors_[index].parts, {}, &Part::begin);
    for (const Part& part : tensors_[index].parts) {
      if (part.begin != covered) break;
      covered += part.count;
    }
    if (covered == elements[name]) continue;
    throw UsageError(fmt::format(
        "a model of parts: the ranks' parts of {} must cover its {} elements once, and do so up to "
        "element {}",
        name, elements[name], covered));
  }
  for (const StateTensor& tensor : mine) {
    if (tensor.is_written) tensors_[index_of_.at(tensor.name)].mine = &tensor;
  }
}

void ModelParts::announce(std::int64_t index) {
  world_.broadcast(buffer_of(std::span(&index, 1)), 0).wait();
}

void ModelParts::read(const std::string& name, const ByteSink& write) {
  const std::size_t index = index_of_.at(name);
  announce(static_cast<std::int64_t>(index));
  const Tensor& tensor = tensors_[index];
  const std::size_t element = size_of(tensor.dtype);
  std::string received;
  std::exception_ptr failure;
  for (const Part& part : tensor.parts) {
    for (std::int64_t at = 0; at < part.count; at += kPieceElements) {
      const std::int64_t count = size_of_piece(part.count, at);
      Buffer piece;
      if (part.rank == 0) {
        piece = tensor.mine->values.slice(at, count);
      } else {
        received.resize(static_cast<std::size_t>(count) * element);
        piece = {received.data(), count, tensor.dtype};
        world_.recv(piece, part.rank).wait();
      }
      if (failure) continue;
      try {
        write({static_cast<const char*>(piece.data), piece.bytes()});
      } catch (...) {
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

void ModelParts::finish() {
  announce(kEnd);
}

void ModelParts::send(const Tensor& tensor) {
  if (tensor.mine == nullptr) return;
  const std::int64_t count = tensor.mine->values.count;
  for (std::int64_t at = 0; at < count; at += kPieceElements) {
    world_.send(tensor.mine->values.slice(at, size_of_piece(count, at)), 0).wait();
  }
}

void ModelParts::serve() {
  for (;;) {
    std::int64_t index = 0;
    world_.broadcast(buffer_of(std::span(&index, 1)), 0).wait();
    if (index == kEnd) return;
    send(tensors_[static_cast<std::size_t>(index)]);
  }
}

}  // namespace trireme
