#include "trireme/comm/message/agreed_error.h"

#include <cstring>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"

namespace trireme::message {

// The payload is the failed rank, an int32, and the text behind it.

std::exception_ptr exception_of(const AgreedError& error) {
  return std::make_exception_ptr(CommError(error.text, error.failed_rank));
}

Frame frame_of(const AgreedError& error) {
  const auto failed_rank = static_cast<std::int32_t>(error.failed_rank);
  std::string payload(sizeof(failed_rank), '\0');
  std::memcpy(payload.data(), &failed_rank, sizeof(failed_rank));
  Frame frame;
  frame.header = {.kind = FrameKind::kAgreedError, .number = error.first_operation};
  frame.set_payload(payload + error.text);
  return frame;
}

AgreedError agreed_error_of(const Frame& frame) {
  std::int32_t failed_rank = -1;
  const std::string_view payload = frame.text();
  if (payload.size() < sizeof(failed_rank)) return {.first_operation = frame.header.number};
  std::memcpy(&failed_rank, payload.data(), sizeof(failed_rank));
  return {.text = without_control_characters(payload.substr(sizeof(failed_rank))),
          .failed_rank = failed_rank,
          .first_operation = frame.header.number};
}

}  // namespace trireme::message
