#pragma once

#include <memory>

#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme {

/// Tokens 0 to 255 are the bytes of a text, which may be any bytes; 256 ends a document.
std::unique_ptr<Tokenizer> byte_tokenizer();

}  // namespace trireme
