#include "trireme/base/process_state.h"

#include <fstream>

namespace trireme {

std::string state_of_process(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text;
  std::getline(file, text);
  // "17 (a name that may hold anything) T ...": the state follows the last parenthesis.
  const auto name_end = text.rfind(')');
  const char state = name_end + 2 < text.size() ? text[name_end + 2] : 'X';
  switch (state) {
    case 'T':
    case 't':
      return "its process is stopped";
    case 'X':
    case 'Z':
      return "its process is gone";
    default:
      return "its process is running";
  }
}

}  // namespace trireme
