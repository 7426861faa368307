#include <fmt/format.h>

#include <algorithm>

#include "trireme/comm/mpi/transport-inl.h"

namespace trireme::mpi {

void MpiTransport::open_receive(Way& way) {
  const auto& [peer, data, bytes] = way.chunk;
  if (!engine_.why_abandoned().empty() || !lost_[peer].empty()) return;
  way.is_open = true;
  if (bytes <= kEagerBytes) return receive_part(way, small_, way.tag, 0, bytes);
  const Grant grant{way.tag, next_token_, bytes};
  next_token_ = (next_token_ + 1) % tags_;
  way.token = grant.token;
  for (std::size_t first = 0; first < bytes; first += kPartBytes) {
    receive_part(way, large_, grant.token, first, std::min(kPartBytes, bytes - first));
  }
  post(peer, kGrantTag, control_, &grant, sizeof(grant));
}

void MpiTransport::receive_part(Way& way, MPI_Comm comm, int tag, std::size_t first,
                                std::size_t bytes) {
  const int peer = way.chunk.peer;
  const int code =
      MPI_Irecv(static_cast<char*>(way.chunk.data) + first, static_cast<int>(bytes), MPI_BYTE, peer,
                tag, comm, &way.requests.emplace_back(MPI_REQUEST_NULL));
  if (code == MPI_SUCCESS) return;
  way.is_open = false;
  lose(peer, text_of(code, "MPI_Irecv"));
}

void MpiTransport::open_send(const std::shared_ptr<Way>& way) {
  const auto& [peer, data, bytes] = way->chunk;
  if (!engine_.why_abandoned().empty() || !lost_[peer].empty()) return;
  if (bytes <= kEagerBytes) {
    way->is_open = true;
    post(peer, way->tag, small_, data, bytes);
    return;
  }
  lines_[{peer, way->tag}].ways.push_back(way);
  match(peer, way->tag);
}

void MpiTransport::match(int peer, int tag) {
  const auto found = lines_.find({peer, tag});
  Line& line = found->second;
  while (!line.ways.empty() && !line.slots.empty()) {
    const std::shared_ptr<Way> way = line.ways.front();
    const auto [grant, is_withdrawn] = line.slots.front();
    line.ways.pop_front();
    line.slots.pop_front();
    if (is_withdrawn) {
      way->error =
          fmt::format("rank {} no longer waits for {} bytes with tag {}", peer, grant.bytes, tag);
    } else if (way->is_given_up) {
      // The grant is used up too, so that the next chunk is not sent in place of this one.
      post(peer, kReleaseTag, control_, &grant, sizeof(grant));
    } else if (way->chunk.bytes != grant.bytes) {
      way->error = fmt::format("rank {} waits for {} bytes with tag {}, this rank sends it {}",
                               peer, grant.bytes, tag, way->chunk.bytes);
      post(peer, kReleaseTag, control_, &grant, sizeof(grant));
    } else {
      send_parts(*way, grant);
    }
  }
  if (line.ways.empty() && line.slots.empty()) lines_.erase(found);
}

void MpiTransport::send_parts(Way& way, const Grant& grant) {
  const auto& [peer, data, bytes] = way.chunk;
  way.is_open = true;
  for (std::size_t first = 0; first < bytes; first += kPartBytes) {
    const int code = MPI_Isend(
        static_cast<char*>(data) + first, static_cast<int>(std::min(kPartBytes, bytes - first)),
        MPI_BYTE, peer, grant.token, large_, &way.requests.emplace_back(MPI_REQUEST_NULL));
    if (code == MPI_SUCCESS) continue;
    way.is_open = false;
    return lose(peer, text_of(code, "MPI_Isend"));
  }
}

void MpiTransport::give_up(Way& way) {
  if (way.is_given_up) return;
  way.is_given_up = true;
  if (way.is_send) return;
  for (MPI_Request& request : way.requests) {
    if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
  }
}

bool MpiTransport::is_done(Way& way) {
  if (!engine_.why_abandoned().empty()) return false;
  const int peer = way.chunk.peer;
  bool is_quiet = true;
  bool is_torn = false;
  for (MPI_Request& request : way.requests) {
    if (request == MPI_REQUEST_NULL) continue;
    int done = 0;
    MPI_Status status;
    const int code = MPI_Test(&request, &done, &status);
    if (code != MPI_SUCCESS) {
      lose(peer, text_of(code, "MPI_Test"));
      is_torn = true;
      continue;
    }
    if (!done) {
      is_quiet = false;
      break;
    }
    int called_back = 0;
    if (way.is_given_up) MPI_Test_cancelled(&status, &called_back);
    way.parts_called_back += called_back;
  }
  if (way.is_given_up) {
    if (is_quiet) withdraw(way);
    return is_quiet;
  }
  const bool is_under_way = is_torn || !is_quiet || !way.is_open;
  if (is_under_way && way.error.empty() && !lost_[peer].empty()) {
    way.error = fmt::format("rank {} is lost: {}", peer, lost_[peer]);
  }
  return !is_under_way && way.error.empty();
}

void MpiTransport::withdraw(Way& way) {
  if (way.token < 0 || way.parts_called_back == 0) return;
  const int parts = std::exchange(way.parts_called_back, 0);
  if (released_.erase(way.token) > 0) return;
  const Grant grant{way.tag, way.token, way.chunk.bytes};
  strays_.push_back({way.chunk.peer, grant, parts});
  post(way.chunk.peer, kWithdrawTag, control_, &grant, sizeof(grant));
}

void MpiTransport::take_withdrawal(int peer, const Grant& grant) {
  const auto line = lines_.find({peer, grant.tag});
  if (line == lines_.end()) return;
  for (Line::Slot& slot : line->second.slots) {
    if (slot.grant.token != grant.token) continue;
    slot.is_withdrawn = true;
    post(peer, kReleaseTag, control_, &grant, sizeof(grant));
  }
}

void MpiTransport::take_release(const Grant& grant) {
  const auto is_it = [&](const Stray& stray) { return stray.grant.token == grant.token; };
  if (std::erase_if(strays_, is_it) == 0) released_.insert(grant.token);
}

void MpiTransport::collect_strays() {
  for (auto stray = strays_.begin(); stray != strays_.end();) {
    int is_there = 0;
    MPI_Status status;
    const int code = MPI_Iprobe(stray->peer, stray->grant.token, large_, &is_there, &status);
    if (code == MPI_SUCCESS && is_there) {
      int bytes = 0;
      MPI_Get_count(&status, MPI_BYTE, &bytes);
      Dustbin& bin = dustbins_.emplace_back(Dustbin{std::vector<char>(bytes)});
      MPI_Irecv(bin.bytes.data(), bytes, MPI_BYTE, stray->peer, stray->grant.token, large_,
                &bin.request);
      --stray->parts;
    }
    const bool is_over = stray->parts == 0 || code != MPI_SUCCESS || !lost_[stray->peer].empty();
    stray = is_over ? strays_.erase(stray) : std::next(stray);
  }
  std::erase_if(dustbins_, [](Dustbin& bin) {
    int done = 0;
    return MPI_Test(&bin.request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done;
  });
}

}  // namespace trireme::mpi
