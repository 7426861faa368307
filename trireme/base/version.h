#pragma once

namespace trireme {

/// The release of this library: "0.1.0".
const char* version();

}  // namespace trireme
