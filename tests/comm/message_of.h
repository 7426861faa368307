#pragma once

#include <exception>
#include <functional>
#include <string>

namespace trireme::test {

/// The message with which `call` throws an error of type E, or what came in its place.
template <class E>
std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "nothing was thrown";
}

}  // namespace trireme::test
