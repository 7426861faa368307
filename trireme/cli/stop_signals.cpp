#include "trireme/cli/stop_signals.h"

#include <signal.h>

#include <array>

namespace trireme::cli {

namespace {

// The one kind of variable that a signal handler may write.
volatile sig_atomic_t first_signal = 0;

constexpr std::array kRequests = {SIGINT, SIGTERM, SIGQUIT, SIGUSR1};

void note(int signal) {
  if (first_signal == 0) {
    first_signal = signal;
  } else if (signal == SIGINT || signal == SIGQUIT) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
  }
}

}  // namespace

void end_on_signals() {
  for (const int signal : kRequests) ::signal(signal, SIG_DFL);
}

void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  for (const int signal : kRequests) ::sigaction(signal, &action, nullptr);
  struct sigaction hangup {};
  if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
    ::sigaction(SIGHUP, &action, nullptr);
  }
}

int stop_signal() {
  return first_signal;
}

}  // namespace trireme::cli
