#include "trireme/server/zmq/unsent_replies.h"

#include <fmt/format.h>

#include <utility>

namespace trireme::server {

UnsentReply::UnsentReply(std::shared_ptr<Count> of_client, std::shared_ptr<Count> of_all)
    : of_client_(std::move(of_client)), of_all_(std::move(of_all)) {
  ++of_client_->replies;
  ++of_all_->replies;
}

UnsentReply::~UnsentReply() {
  for (Count* count : {of_client_.get(), of_all_.get()}) {
    count->bytes -= bytes_;
    --count->replies;
  }
}

void UnsentReply::add(std::size_t bytes) {
  bytes_ += bytes;
  for (Count* count : {of_client_.get(), of_all_.get()}) count->bytes += bytes;
}

std::string UnsentReplies::refusal(std::uint64_t from) const {
  if (const auto client = clients_.find(from);
      client != clients_.end() && client->second->replies >= kMostOfClient) {
    return fmt::format("this client has not read its last {} replies ({} bytes); read them first",
                       client->second->replies.load(), client->second->bytes.load());
  }
  if (all_->bytes <= max_bytes_) return "";
  return fmt::format(
      "{} bytes of replies wait to be read by their clients, more than its limit "
      "(--max-held-bytes); "
      "try again",
      all_->bytes.load());
}

std::shared_ptr<UnsentReply> UnsentReplies::begin(std::uint64_t from) {
  std::shared_ptr<Count>& client = clients_[from];
  if (!client) client = std::make_shared<Count>();
  return std::make_shared<UnsentReply>(client, all_);
}

void UnsentReplies::forget_idle() {
  std::erase_if(clients_, [](const auto& entry) { return entry.second->replies == 0; });
}

}  // namespace trireme::server
