#include "tests/comm/engine.h"

namespace trireme::test {

Engine*& engine_of_program() {
  static Engine* engine = nullptr;
  return engine;
}

}  // namespace trireme::test
