#pragma once

#include <gtest/gtest.h>

#include <string>

namespace trireme {

/// Returns the text of the `Expected` that `call` throws; the test fails if it throws another error
/// or none.
template <class Expected, class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Expected& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "threw something else: " << error.what();
    return {};
  }
  ADD_FAILURE() << "threw nothing";
  return {};
}

}  // namespace trireme
