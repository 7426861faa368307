#pragma once

#include <exception>
#include <functional>
#include <string>

namespace trireme::test {

/// Returns the message of the error of type E that `call` throws, or a text that names what it
/// throws instead.
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
