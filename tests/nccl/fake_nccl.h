#pragma once

/// NCCL between the threads of this process, on the streams of fake_cuda.h. Linked in place of
/// libnccl. It is as strict as the real one is silent: whatever that would answer with a hang or
/// with wrong data is an offence (fake_cuda.h).
namespace trireme::test::fake {

struct NcclFaults {
  bool cannot_begin = false;     ///< ncclGetUniqueId fails
  bool never_meets = false;      ///< ranks do not find each other
  int fails_on_rank = -1;        ///< which gets an asynchronous error in its next operation
  bool does_not_let_go = false;  ///< ncclCommAbort does not come back until this is false again
};
void set_faults(NcclFaults faults);

/// Communicators that were neither destroyed nor aborted.
int open_communicators();

}  // namespace trireme::test::fake
