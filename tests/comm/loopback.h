#pragma once

#include <netinet/in.h>

#include "trireme/base/file_descriptor.h"

namespace trireme::test {

sockaddr_in loopback(int port);

/// A port that is free now.
int free_port();

/// Returns a socket that listens at 127.0.0.1; not open if another program has the port. 0: any.
FileDescriptor listening_on(int port);

int port_of(const FileDescriptor& listener);

/// Returns a socket connected to 127.0.0.1; not open if the port refuses.
FileDescriptor connected_to(int port);

}  // namespace trireme::test
