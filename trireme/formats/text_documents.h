#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "trireme/formats/byte_source.h"

namespace trireme {

/// What a document of a text is.
enum class DocumentUnit {
  kFile,      ///< a whole file
  kLine,      ///< a line, without its line break
  kJsonLine,  ///< a field of a JSON object that fills a line
};

enum class NotUtf8 {
  kError,
  kReplace,  ///< by U+FFFD, as the Unicode Standard recommends (section 3.9)
};

struct DocumentOptions {
  DocumentUnit unit = DocumentUnit::kFile;
  std::string field = "text";  ///< of the JSON objects
  std::string prompt_field;    ///< of the JSON objects: read but not trained on; empty: none
  NotUtf8 not_utf8 = NotUtf8::kError;
};

struct TextDocument {
  std::string text;    ///< UTF-8
  std::string prompt;  ///< UTF-8
  std::string place;   ///< "books.jsonl:17", for errors
};

/// Reads the documents of one file in their order. Documents without text are left out. Of a file
/// of lines only the line is held in memory.
///
/// One thread at a time. Throws DataError, which names file and line, on bytes that are not UTF-8
/// and on lines that are not the JSON that is wanted.
class DocumentReader {
 public:
  DocumentReader(std::unique_ptr<ByteSource> source, std::string name, DocumentOptions options);

  /// Moves to the next document; nothing at the end.
  std::optional<TextDocument> next();

  std::int64_t empty() const { return empty_; }  ///< documents left out so far

 private:
  std::optional<TextDocument> read();
  std::optional<TextDocument> read_line();
  bool next_line(std::string& line);
  TextDocument parse(const std::string& line, std::string place) const;
  std::string checked(std::string text, const std::string& place) const;

  std::unique_ptr<ByteSource> source_;
  std::string name_;
  DocumentOptions options_;
  std::string buffer_;  // what was read and not handed out is from at_ on
  std::size_t at_ = 0;
  std::int64_t line_ = 0;
  std::int64_t empty_ = 0;
  bool at_end_ = false;
};

}  // namespace trireme
