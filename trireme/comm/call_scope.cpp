#include "trireme/comm/call_scope.h"

namespace trireme {

namespace {

// Of a thread and not of a communicator: a strategy calls several communicators.
thread_local constinit SourceLocation scope_of_thread{.line = 0};

}  // namespace

CallScope::CallScope(const char* call, SourceLocation where)
    : is_outermost_(scope_of_thread.line == 0) {
  if (is_outermost_) scope_of_thread = {.file = where.file, .line = where.line, .caller = call};
}

CallScope::~CallScope() {
  if (is_outermost_) scope_of_thread = {};
}

SourceLocation place_in_scope(SourceLocation where) {
  return scope_of_thread.line == 0 ? where : scope_of_thread;
}

}  // namespace trireme
