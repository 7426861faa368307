#include "trireme/cli/stop_signals.h"

#include <signal.h>

namespace trireme::cli {

namespace {

// The one kind of variable that a signal handler may write.
volatile sig_atomic_t first_signal = 0;

void note(int signal) {
  if (first_signal == 0) {
    first_signal = signal;
  } else if (signal == SIGINT || signal == SIGQUIT) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
  }
}

}  // namespace

void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGQUIT, SIGUSR1}) {
    ::sigaction(signal, &action, nullptr);
  }
  struct sigaction hangup {};
  if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
    ::sigaction(SIGHUP, &action, nullptr);
  }
}

int stop_signal() {
  return first_signal;
}

}  // namespace trireme::cli
