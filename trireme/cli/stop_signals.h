#pragma once

namespace trireme::cli {

/// From this call on, SIGINT, SIGTERM, SIGQUIT and SIGUSR1 end the process, also where its starter
/// ignores them, as a shell does with SIGINT in the background of a script. A SIGHUP that is
/// ignored stays ignored (nohup).
void end_on_signals();

/// From this call on, SIGINT, SIGTERM, SIGQUIT, SIGUSR1 and, unless it is ignored (nohup), SIGHUP
/// are requests to stop that this process answers when it can: stop_signal(). Before it they end
/// the process, so it must be called only when there is something to save. A second SIGINT
/// or SIGQUIT ends the process at once; other signals may come twice (supervisor.h).
void stop_on_signals();

/// The first of these signals that has arrived, or 0.
int stop_signal();

}  // namespace trireme::cli
