#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/plan/run_plan.h"
#include "trireme/train/verify.h"

namespace trireme {

/// Returns the configuration of the reference beside `config`: the same training on one rank, which
/// holds all. training.virtual_workers must be given.
Config reference_of(Config config);

/// Throws UsageError if nothing of a run of this plan can be compared with one rank, or with
/// `bound` 0 no bits: docs/verify.md.
void require_comparable(const plan::RunPlan& plan, double bound);

/// verify() for what `config` trains: the first steps of Trainer on all ranks of `world` but the
/// last, and of the reference on the last one. training.virtual_workers must be given. The norm is
/// compared in the steps that compute it: those that clip, and every second one. Collective. Writes
/// no file. Throws UsageError, DataError, CommError or DivergedError.
Verification verify(const Config& config, Communicator& world, VerifyOptions options = {});

}  // namespace trireme
