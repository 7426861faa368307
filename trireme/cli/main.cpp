#include "trireme/cli/program.h"

int main(int argc, char** argv) {
  return trireme::cli::run_program(argc, argv);
}
