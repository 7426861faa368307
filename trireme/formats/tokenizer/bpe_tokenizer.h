#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "trireme/formats/tokenizer/added_tokens.h"
#include "trireme/formats/tokenizer/bpe.h"
#include "trireme/formats/tokenizer/normalizer.h"
#include "trireme/formats/tokenizer/pre_tokenizer.h"
#include "trireme/formats/tokenizer/token_decoder.h"
#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme {

/// The parts of a tokenizer by byte-pair encoding, in the order in which a text passes them.
struct BpeParts {
  std::vector<AddedToken> added;
  std::unique_ptr<Normalizer> normalizer;       ///< null: none
  std::unique_ptr<PreTokenizer> pre_tokenizer;  ///< null: a text is one piece
  BpeTables tables;
  TextFrame frame;
  std::unordered_map<std::int32_t, std::string> texts;  ///< of the tokens, for the decoder
  std::unique_ptr<TokenDecoder> decoder;                ///< null: the texts are joined
  std::string json;
};

std::unique_ptr<Tokenizer> bpe_tokenizer(BpeParts parts);

/// An encoder of the npm package tiktoken: GPT-2's byte-pair table and its like. Throws DataError
/// or an exception of nlohmann::json if something is missing.
BpeParts parts_of_tiktoken(const nlohmann::json& json);

/// Hugging Face's tokenizer.json of type BPE. Throws as above, and with the name of a component
/// that is not known.
BpeParts parts_of_huggingface(const nlohmann::json& json);

}  // namespace trireme
