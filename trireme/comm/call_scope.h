#pragma once

#include "trireme/base/source_location.h"

namespace trireme {

/// For a function that makes several collectives for its caller: while the object lives, errors of
/// the communicators that this thread calls name the caller's line and not those inside trireme.
///
///     void update(SourceLocation where = SourceLocation::current()) {
///       const CallScope scope("update", where);
///
/// gives "all_reduce(f32[1024], sum) in update() at train.cpp:31". The outermost scope counts.
class CallScope {
 public:
  /// `call`: a literal.
  CallScope(const char* call, SourceLocation where);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

 private:
  bool is_outermost_;
};

/// Returns the place of this thread's scope, or `where` outside of one.
SourceLocation place_in_scope(SourceLocation where);

}  // namespace trireme
