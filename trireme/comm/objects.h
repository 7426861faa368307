#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme {

/// Exchange of small objects, as strings of bytes whose lengths may differ between ranks. The
/// functions are collective and return when they are done. An object may be empty.

/// Returns every rank's object, in rank order.
std::vector<std::string> all_gather_objects(Communicator& communicator, std::string_view object,
                                            SourceLocation where = SourceLocation::current());

/// Returns every rank's object, in rank order, on `root`, and nothing on the other ranks.
std::vector<std::string> gather_objects(Communicator& communicator, std::string_view object,
                                        int root, SourceLocation where = SourceLocation::current());

/// Returns the object of `root`; those of the other ranks are ignored.
std::string broadcast_object(Communicator& communicator, std::string object, int root,
                             SourceLocation where = SourceLocation::current());

}  // namespace trireme
